"""The coordinates themselves, in closed form: nothing is stored, and a crop costs no more than the crop."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

AXES = 3
"""Coordinate channels, z, y, x: 2D configurations slice three-dimensional volumes, so theirs are three as well."""
FIRST, LAST = 1.0, 3.0
"""At the two ends of a volume. Without 0, which is what nnU-Net pads with: outside differs from every place inside."""

VERSION = 2
"""Of these numbers, kept beside the weights that read them; the first ran from -1 to 1."""


def coordinates(shape: Sequence[int], window: Sequence[slice] = ()) -> NDArray[np.float32]:
    """Positions of voxel centres, from 1 to 3 along each axis of the volume; 2 along an axis of one voxel.

    Args:
        shape: (Z, Y, X) of the whole preprocessed volume.
        window: part of it, one slice of step 1 an axis; the whole without it.

    Returns:
        (3, Z, Y, X) of the window.
    """
    window = window or [slice(None)] * len(shape)
    axes = [_axis(size)[part] for size, part in zip(shape, window, strict=True)]
    return np.stack(np.broadcast_arrays(*np.ix_(*axes)))


def _axis(size: int) -> NDArray[np.float32]:
    ends = (FIRST, LAST) if size > 1 else ((FIRST + LAST) / 2,) * 2
    return np.linspace(*ends, size, dtype=np.float32)


class WithCoordinates:
    """A stored image (C, Z, Y, X) with the coordinates behind its channels: (C + 3, Z, Y, X), read only where asked.

    Args:
        image: an array of NumPy, a memory map, or a file of blosc2.
    """

    def __init__(self, image: Any) -> None:
        self.image = image
        self.shape = (image.shape[0] + AXES, *image.shape[1:])
        self.dtype = image.dtype
        self.ndim = len(self.shape)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """The part as an array.

        Raises:
            IndexError: the key is not made of slices of step 1.
        """
        parts = list(key) if isinstance(key, tuple) else [key]
        if not all(isinstance(part, slice) and part.step in (None, 1) for part in parts) or len(parts) > self.ndim:
            raise IndexError(f"{key} is no window into a volume with coordinates; give slices of step 1.")
        channels, *window = parts + [slice(None)] * (self.ndim - len(parts))
        stored = np.asarray(self.image[(slice(None), *window)])
        field = coordinates(self.shape[1:], window).astype(stored.dtype, copy=False)
        return np.concatenate([stored, field])[channels]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """All of it."""
        return self[:].astype(dtype or self.dtype, copy=False)
