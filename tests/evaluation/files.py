"""Small label files."""

import numpy as np
import SimpleITK


def save(path, labels, spacing=(1.0, 1.0, 1.0), origin=(0.0, 0.0, 0.0), direction=None):
    """Writes labels (z, y, x) with a spacing (x, y, z) and returns the path."""
    image = SimpleITK.GetImageFromArray(np.asarray(labels), isVector=False)
    image.SetSpacing((*spacing, 1.0)[: image.GetDimension()])
    image.SetOrigin((*origin, 0.0)[: image.GetDimension()])
    if direction:
        image.SetDirection(direction)
    path.parent.mkdir(parents=True, exist_ok=True)
    SimpleITK.WriteImage(image, str(path), True)
    return path


def tumour(shape=(12, 14, 16), at=(3, 3, 3), enhancing=3):
    """A tumour of 6 x 6 x 6 voxels: edema, in it enhancing tumour, in it necrosis."""
    labels = np.zeros(shape, np.uint8)
    for label, step, size in ((2, 0, 6), (enhancing, 1, 4), (1, 2, 2)):
        labels[tuple(slice(a + step, a + step + size) for a in at)] = label
    return labels
