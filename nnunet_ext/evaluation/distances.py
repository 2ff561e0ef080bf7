"""Distances between two surfaces and what is made of them: HD95 in both definitions, NSD in both.

``HD95_pooled`` is the 95th percentile of the distances of all border voxels of both masks (medpy, MIST, panoptica).
``HD95_directed`` is the larger one of the two 95th percentiles of surface elements, weighted by their area (DeepMind's
surface-distance, BraTS 2023). The values differ; a table must say which it has.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from nnunet_ext.evaluation.surfaces import Mask, areas_of_codes, border, box_of, corner_codes, padded

Values = NDArray[np.float64]
PERCENT = 95
REACH = 3
"""Voxels in each axis within which the surroundings are searched."""
FEW = 16
"""Points for which a tree is no slower than a further step outwards."""


@dataclass(frozen=True)
class Surfaces:
    """Two masks of one grid, neither of them empty.

    Attributes:
        reference: (Z, Y, X) or (Y, X).
        prediction: of the same shape.
        spacing: mm, in the order of the axes.
    """

    reference: Mask
    prediction: Mask
    spacing: tuple[float, ...]

    @classmethod
    def of(cls, reference: Mask, prediction: Mask, spacing: Sequence[float]) -> "Surfaces":
        """The masks without the empty space around both, which changes no distance."""
        box = box_of(reference | prediction)
        assert box is not None
        return cls(reference[box], prediction[box], tuple(map(float, spacing)))

    @cached_property
    def border_distances(self) -> tuple[Values, Values]:
        """From each border voxel to the closest of the other mask, mm: of the reference, of the prediction."""
        return _both_ways(border(self.reference), border(self.prediction), self.spacing)

    @cached_property
    def elements(self) -> tuple[tuple[Values, Values], tuple[Values, Values]]:
        """From each surface element to the closest of the other mask (mm) and its area: reference, prediction."""
        codes = corner_codes(self.reference), corner_codes(self.prediction)
        last = np.uint8((1 << 2**self.reference.ndim) - 2)
        places = [code - np.uint8(1) < last for code in codes]  # neither none nor all; 0 - 1 is 255
        distances = _both_ways(places[0], places[1], self.spacing)
        areas = areas_of_codes(self.spacing)
        found = [_sorted(d, areas[code[place]]) for d, code, place in zip(distances, codes, places, strict=True)]
        return found[0], found[1]

    def hd95_pooled(self) -> float:
        """See the module."""
        return float(np.percentile(np.concatenate(self.border_distances), PERCENT))

    def hd95_directed(self) -> float:
        """See the module."""
        return max(_weighted_percentile(*element) for element in self.elements)

    def nsd(self, tolerance: float) -> float:
        """Share of both surfaces, by area, within ``tolerance`` mm of the other (Nikolov 2018, arXiv:1809.04430)."""
        within = sum(float(area[distance <= tolerance].sum()) for distance, area in self.elements)
        return within / sum(float(area.sum()) for _, area in self.elements)

    def nsd_voxel(self, tolerance: float) -> float:
        """Mean of the two shares of border voxels within ``tolerance`` mm of the other mask's (panoptica)."""
        return float(np.mean([np.mean(distance <= tolerance) for distance in self.border_distances]))


def _both_ways(first: Mask, second: Mask, spacing: tuple[float, ...]) -> tuple[Values, Values]:
    wide = padded(first, REACH), padded(second, REACH)
    return _nearest(*wide, spacing), _nearest(*wide[::-1], spacing)


def _nearest(of: Mask, to: Mask, spacing: tuple[float, ...]) -> Values:
    """From each voxel in ``of`` to the closest in ``to``, mm, in the order of the voxels; none within REACH of the end.

    Most are near: their surroundings are searched outwards, which takes a fraction of a tree's time; a tree finds the
    rest. All are computed from whole voxel steps as scipy's distance transform does, so that equal distances are equal
    numbers.
    """
    shells = _shells(spacing)
    width = np.cumprod((1, *to.shape[:0:-1]))[::-1]
    places, flat = np.flatnonzero(of), to.reshape(-1)
    distances = np.zeros(len(places))
    left = np.flatnonzero(~flat[places])
    for distance, steps in shells:
        if len(left) <= FEW:
            break
        around = flat[places[left] + (steps @ width)[:, None]].any(axis=0)
        distances[left[around]] = distance
        left = left[~around]
    if len(left):
        distances[left] = _by_tree(places[left], flat, to.shape, spacing)
    return distances


def _by_tree(places: NDArray[np.intp], flat: Mask, shape: tuple[int, ...], spacing: tuple[float, ...]) -> Values:
    points, targets = (np.stack(np.unravel_index(at, shape), axis=1) for at in (places, np.flatnonzero(flat)))
    tree = cKDTree(targets * spacing, balanced_tree=False, compact_nodes=False)
    _, closest = tree.query(points * spacing)
    return _lengths(targets[closest] - points, spacing)


@cache
def _shells(spacing: tuple[float, ...]) -> tuple[tuple[float, NDArray[np.intp]], ...]:
    """Distances (mm), ascending, with all steps (n, axes) of that length, as far as none lies beyond REACH voxels."""
    window = np.array(list(product(range(-REACH, REACH + 1), repeat=len(spacing))))
    lengths = _lengths(window, spacing)
    known = np.unique(lengths[(lengths > 0) & (lengths < (REACH + 1) * min(spacing))])
    return tuple((float(length), window[lengths == length]) for length in known)


def _lengths(steps: NDArray[np.intp], spacing: tuple[float, ...]) -> Values:
    found: Values = np.sqrt(np.add.reduce((steps.T * np.array(spacing)[:, None]) ** 2))
    return found


def _sorted(distances: Values, areas: Values) -> tuple[Values, Values]:
    """By distance, of equal distances by area, as numpy sorts complex numbers: in less time than by two keys."""
    both = np.sort(distances + 1j * areas)
    return both.real, both.imag


def _weighted_percentile(distances: Values, areas: Values) -> float:
    share = np.cumsum(areas) / np.sum(areas)
    index = np.searchsorted(share, PERCENT / 100)
    return float(distances[min(int(index), len(distances) - 1)])
