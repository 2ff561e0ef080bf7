"""Where the surface of a mask is: its border voxels, and the surface elements between voxels.

A surface element lies at a corner of voxels, where 2 x 2 x 2 (2D: 2 x 2) voxels meet of which some are in the mask; its
area is that of the triangles (2D: length of the lines) which marching cubes puts there (Lorensen 1987,
doi:10.1145/37402.37422; as in Nikolov 2018, arXiv:1809.04430, and its library surface-distance).
"""

from collections.abc import Sequence
from functools import cache
from itertools import permutations, product

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Normals = tuple[tuple[float, ...], ...]
EIGHTH = 0.125

# One row for each way to choose corners of the cube (square) up to rotation, mirroring and swapping in and out: the
# corners that are in the mask, and the triangles' normals, as long as their area, in eighths and without sign.
CUBE: tuple[tuple[tuple[str, ...], Normals], ...] = (
    ((), ()),
    (("111",), ((1, 1, 1),)),
    (("110", "111"), ((2, 2, 0), (2, 2, 0))),
    (("101", "110"), ((1, 1, 1), (1, 1, 1))),
    (("011", "100"), ((1, 1, 1), (1, 1, 1))),
    (("101", "110", "111"), ((1, 1, 1), (2, 2, 2), (4, 0, 0))),
    (("011", "101", "110"), ((1, 1, 1), (1, 1, 1), (1, 1, 1))),
    (("011", "100", "111"), ((0, 2, 2), (0, 2, 2), (1, 1, 1))),
    (("100", "101", "110", "111"), ((4, 0, 0), (4, 0, 0))),
    (("011", "101", "110", "111"), ((1, 1, 1), (1, 1, 1), (2, 2, 2), (2, 2, 2))),
    (("011", "100", "110", "111"), ((0, 2, 2), (1, 1, 1), (2, 0, 2), (3, 3, 3))),
    (("011", "100", "101", "110"), ((1, 1, 1), (1, 1, 1), (2, 2, 2), (4, 0, 0))),
    (("010", "011", "100", "101"), ((2, 2, 0), (2, 2, 0), (2, 2, 0), (2, 2, 0))),
    (("001", "010", "100", "111"), ((1, 1, 1), (1, 1, 1), (1, 1, 1), (1, 1, 1))),
)
SQUARE: tuple[tuple[tuple[str, ...], Normals], ...] = (
    ((), ()),
    (("11",), ((4, 4),)),
    (("10", "11"), ((8, 0),)),
    (("01", "10"), ((4, 4), (4, 4))),
)


@cache
def normals_of_codes(dimensions: int) -> tuple[Normals, ...]:
    """The normals (in eighths, without sign) at a corner for each code of :func:`corner_codes`."""
    table: dict[int, Normals] = {}
    corners = list(product((0, 1), repeat=dimensions))
    for inside, normals in {2: SQUARE, 3: CUBE}[dimensions]:
        chosen = [tuple(map(int, corner)) for corner in inside]
        for order, flips in product(permutations(range(dimensions)), corners):
            moved = {tuple(c[axis] ^ flip for axis, flip in zip(order, flips, strict=True)) for c in chosen}
            turned = tuple(tuple(n[axis] for axis in order) for n in normals)
            code = sum(1 << index for index, corner in enumerate(corners) if corner in moved)
            table[code] = table[(1 << len(corners)) - 1 - code] = turned
    return tuple(table[code] for code in range(len(table)))


@cache
def areas_of_codes(spacing: tuple[float, ...]) -> NDArray[np.float64]:
    """Area (mm2; 2D: length, mm) of the surface at a corner for each code of :func:`corner_codes`.

    Args:
        spacing: of the voxels, mm, in the order of the mask's axes.
    """
    across = np.prod(spacing) / np.asarray(spacing)
    tables = normals_of_codes(len(spacing))
    return np.array([sum(float(np.linalg.norm(np.multiply(n, EIGHTH) * across)) for n in row) for row in tables])


def corner_codes(mask: Mask) -> NDArray[np.uint8]:
    """Which of the voxels around each corner are in the mask, one bit a voxel; the mask's shape + 1."""
    codes = padded(mask, 1).view(np.uint8)
    for bits, axis in enumerate(reversed(range(mask.ndim))):  # pairs along x, then pairs of pairs along y, and so on
        low, high = [slice(None)] * mask.ndim, [slice(None)] * mask.ndim
        low[axis], high[axis] = slice(0, -1), slice(1, None)
        codes = codes[tuple(low)] | codes[tuple(high)] << np.uint8(1 << bits)
    return codes


def border(mask: Mask) -> Mask:
    """The voxels of the mask with a face that is not the mask's; what lies beyond the volume is not.

    As ``mask ^ scipy.ndimage.binary_erosion(mask)``, which takes several times as long.
    """
    wide = padded(mask, 1)
    inner = mask.copy()
    for axis, shift in product(range(mask.ndim), (0, 2)):
        where = [slice(1, -1)] * mask.ndim
        where[axis] = slice(shift, shift + mask.shape[axis])
        inner &= wide[tuple(where)]
    return mask & ~inner


def padded(mask: Mask, width: int) -> Mask:
    """The mask with nothing around it; np.pad takes several times as long."""
    wide = np.zeros(tuple(n + 2 * width for n in mask.shape), bool)
    wide[(slice(width, -width),) * mask.ndim] = mask
    return wide


def grown(mask: Mask, steps: int) -> Mask:
    """The mask and what lies within so many steps to its 18 neighbours (2D: 8), inside the volume.

    As ``scipy.ndimage.binary_dilation`` with ``generate_binary_structure(ndim, 2)``, which takes several times as long:
    that structure is the union of the squares across two axes, and a square is a line along a line.
    """
    for _ in range(steps):
        lines = [_along(mask, axis) for axis in range(mask.ndim)]
        squares = (_along(lines[axis], other) for axis in range(mask.ndim) for other in range(axis))
        mask = np.logical_or.reduce(list(squares))
    return mask


def _along(mask: Mask, axis: int) -> Mask:
    """The mask and the voxels before and behind it along an axis."""
    wide = mask.copy()
    before, behind = [slice(None)] * mask.ndim, [slice(None)] * mask.ndim
    before[axis], behind[axis] = slice(0, -1), slice(1, None)
    wide[tuple(before)] |= mask[tuple(behind)]
    wide[tuple(behind)] |= mask[tuple(before)]
    return wide


def box_of(mask: Mask, margin: int = 0) -> tuple[slice, ...] | None:
    """The smallest box around a mask, ``margin`` voxels wider but inside the volume; None if the mask is empty."""
    found: list[slice] = []
    for axis in range(mask.ndim):
        others = tuple(a for a in range(mask.ndim) if a != axis)
        there = np.flatnonzero(mask[tuple(found)].any(axis=others))  # the other axes are searched within the box
        if not there.size:
            return None
        found.append(slice(int(there[0]), int(there[-1]) + 1))
    limits = zip(found, mask.shape, strict=True)
    return tuple(slice(max(s.start - margin, 0), min(s.stop + margin, n)) for s, n in limits)


def around(boxes: Sequence[tuple[slice, ...]]) -> tuple[slice, ...]:
    """The smallest box around boxes."""
    axes = zip(*boxes, strict=True)
    return tuple(slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in axes)
