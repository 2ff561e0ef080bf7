"""Official folder layouts of the phantoms' editions, and how a phantom is written into one."""

import gzip
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from dataset_conversion.brats.files import write_whole
from dataset_conversion.brats.phantom import CONTRASTS, Phantom

LAYOUTS: dict[str, Callable[[int, str], str]] = {
    # the case's folder; the numbers are ones that no patient of the edition has
    "2018": lambda index, grade: f"MICCAI_BraTS_2018_Data_Training/{grade}/Brats18_PHANTOM_{index:03d}_1",
    "2021": lambda index, _: f"BraTS2021_Training_Data/BraTS2021_{90000 + index:05d}",
}


def case_folder(root: Path, edition: str, index: int, grade: str) -> Path:
    """Folder of case ``index`` in the edition's tree below ``root``; its name is the case's name."""
    return root / LAYOUTS[edition](index, grade)


def _write(array: NDArray[np.int16] | NDArray[np.uint8], path: Path) -> None:
    """Write ``array`` (z, y, x) with BraTS's geometry: 1 mm, axes to the left, the front and the top."""
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    affine[1, 3] = array.shape[1] - 1
    image = nib.Nifti1Image(array.T, affine)
    data = gzip.compress(image.to_bytes(), compresslevel=1, mtime=0)  # no time stamp: equal bytes
    write_whole(path, data)  # a new file: the old one may be hard-linked into a dataset


def write_case(phantom: Phantom, folder: Path) -> None:
    """Write the four images and the segmentation of one case into ``folder``, named as BraTS names them."""
    folder.mkdir(parents=True, exist_ok=True)
    for contrast, image in zip(CONTRASTS, phantom.images, strict=True):
        _write(image, folder / f"{folder.name}_{contrast}.nii.gz")
    _write(phantom.labels, folder / f"{folder.name}_seg.nii.gz")
