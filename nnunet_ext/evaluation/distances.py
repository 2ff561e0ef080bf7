"""Distances between two surfaces and what is made of them: HD95 in both definitions, NSD in both.

``HD95_pooled`` is the 95th percentile of the distances of all border voxels of both masks (medpy, MIST, panoptica).
``HD95_directed`` is the larger one of the two 95th percentiles of surface elements, weighted by their area (DeepMind's
surface-distance, BraTS 2023). The values differ; a table must say which it has.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from nnunet_ext.evaluation.surfaces import Mask, areas_of_codes, border, box_of, corner_codes

Values = NDArray[np.float64]
PERCENT = 95


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
        full = (1 << 2**self.reference.ndim) - 1
        places = [(code > 0) & (code < full) for code in codes]
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


def _both_ways(first: Mask, second: Mask, spacing: Sequence[float]) -> tuple[Values, Values]:
    return _nearest(first, second, spacing), _nearest(second, first, spacing)


def _nearest(of: Mask, to: Mask, spacing: Sequence[float]) -> Values:
    """From each voxel in ``of`` to the closest in ``to``, mm, in the order of the voxels.

    Computed from whole voxel steps as scipy's distance transform does, so that equal distances are equal numbers.
    """
    apart = ~to[of]
    distances = np.zeros(apart.shape)
    if apart.any():
        points, targets = np.argwhere(of)[apart], np.argwhere(to)
        tree = cKDTree(targets * spacing, balanced_tree=False, compact_nodes=False)
        _, closest = tree.query(points * spacing)
        distances[apart] = np.sqrt(np.add.reduce(((targets[closest] - points).T * np.array(spacing)[:, None]) ** 2))
    return distances


def _sorted(distances: Values, areas: Values) -> tuple[Values, Values]:
    order = np.lexsort((areas, distances))
    return distances[order], areas[order]


def _weighted_percentile(distances: Values, areas: Values) -> float:
    share = np.cumsum(areas) / np.sum(areas)
    index = np.searchsorted(share, PERCENT / 100)
    return float(distances[min(int(index), len(distances) - 1)])
