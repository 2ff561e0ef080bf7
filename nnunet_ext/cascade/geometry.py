"""Boxes and crops. Pure NumPy; axes are z, y, x, in voxels; a box is one slice an axis, and never leaves its volume."""

from collections.abc import Sequence
from itertools import product

import numpy as np
from nnunetv2.inference.sliding_window_prediction import compute_steps_for_sliding_window
from numpy.typing import NDArray

Box = tuple[slice, ...]


def dilate(box: Box, margin: Sequence[int], shape: Sequence[int]) -> Box:
    """The box with so many voxels more on either side, as far as the volume goes."""
    return tuple(slice(max(b.start - m, 0), min(b.stop + m, n)) for b, m, n in zip(box, margin, shape, strict=True))


def crops_over(box: Box, crop: Sequence[int], shape: Sequence[int], step: float) -> list[Box]:
    """Crops that cover a box: nnU-Net's sliding window over it; along an axis that it fits, one crop around its centre.

    Args:
        box: what to cover.
        crop: size of a crop, at most the volume's.
        shape: of the volume.
        step: nnU-Net's step size, in crops.
    """
    starts = [_starts(b, c, n, step) for b, c, n in zip(box, crop, shape, strict=True)]
    return [tuple(slice(s, s + c) for s, c in zip(corner, crop, strict=True)) for corner in product(*starts)]


def _starts(box: slice, crop: int, size: int, step: float) -> list[int]:
    assert crop <= size, "pad the volume first"
    length = box.stop - box.start
    if length > crop:
        return [box.start + s for s in compute_steps_for_sliding_window((length,), (crop,), step)[0]]
    centred = (box.start + box.stop - crop) // 2
    return [min(max(centred, 0), size - crop)]


def inside(box: Box, other: Box) -> bool:
    """Whether every voxel of a box is in another one."""
    return all(o.start <= b.start and b.stop <= o.stop for b, o in zip(box, other, strict=True))


def shift(box: Box, offset: Sequence[int]) -> Box:
    """The box in a volume that has so many voxels more before it."""
    return tuple(slice(b.start + o, b.stop + o) for b, o in zip(box, offset, strict=True))


def covered(boxes: Sequence[Box], shape: Sequence[int]) -> NDArray[np.bool_]:
    """Which voxels (Z, Y, X) are in any of the boxes."""
    mask = np.zeros(shape, bool)
    for box in boxes:
        mask[box] = True
    return mask


def to_image(box: Box, scale: Sequence[float], first: Sequence[int], order: Sequence[int]) -> Box:
    """The box in the image that a preprocessed volume came from, rounded outwards.

    Args:
        box: in the preprocessed volume.
        scale: image voxels per preprocessed voxel, along the volume's axes.
        first: where the volume begins in the image, along the volume's axes.
        order: nnU-Net's ``transpose_backward``.
    """
    found = [
        slice(int(np.floor(b.start * s + f)), int(np.ceil(b.stop * s + f)))
        for b, s, f in zip(box, scale, first, strict=True)
    ]
    return tuple(found[axis] for axis in order)


def as_lists(box: Box) -> list[list[int]]:
    """[[start, stop], ...] for JSON."""
    return [[int(b.start), int(b.stop)] for b in box]
