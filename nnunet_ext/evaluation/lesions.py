"""Lesions: connected parts (26 neighbours; 2D: 8) of reference and prediction, and which belong together."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, find_objects, generate_binary_structure
from scipy.optimize import linear_sum_assignment

from nnunet_ext.evaluation.conventions import POOLED, LesionRules
from nnunet_ext.evaluation.distances import Surfaces
from nnunet_ext.evaluation.surfaces import Mask, around, box_of

Labels = NDArray[np.integer]
LEAST_DICE = 1e-6


@dataclass(frozen=True)
class Lesion:
    """A reference lesion and what was predicted for it.

    Attributes:
        mm3: its volume.
        dice: with what belongs to it, 0 if nothing does.
        hd95: mm, as the rules measure; NaN if nothing belongs to it.
        nsd_voxel: of border voxels within the smallest spacing; NaN if nothing belongs to it.
        found: whether something belongs to it.
    """

    mm3: float
    dice: float
    hd95: float
    nsd_voxel: float
    found: bool


@dataclass(frozen=True)
class Lesions:
    """All lesions of a region of a case, and how many predicted components belong to none."""

    found: tuple[Lesion, ...]
    extra: int

    def counted(self, rules: LesionRules) -> tuple[Lesion, ...]:
        """Those that are large enough for the rules."""
        return tuple(lesion for lesion in self.found if not rules.min_mm3 or lesion.mm3 > rules.min_mm3)


def components(mask: Mask) -> Labels:
    """Parts of the mask, numbered from 1 in the order in which they are met."""
    # cc3d 4.1.1 stops with "maximum length exception" at the Boolean mask [[[True, False, True]]], and of a view of the
    # shape (2, 1, 1) it reads the wrong voxels: whole arrays of bytes are right
    whole = np.ascontiguousarray(mask).view(np.uint8)
    found: Labels = cc3d.connected_components(whole, connectivity=26 if mask.ndim == 3 else 8)
    return found


def compare(
    reference: Mask, prediction: Mask, spacing: Sequence[float], rules: LesionRules, whole: Surfaces | None = None
) -> Lesions:
    """Finds the lesions of both masks and what belongs together.

    Args:
        reference: (Z, Y, X) or (Y, X).
        prediction: of the same shape.
        spacing: mm, in the order of the axes.
        rules: what a lesion is and what belongs to it.
        whole: distances between the masks, which are those of the lesion where each has but one.
    """
    box = box_of(reference | prediction, margin=rules.dilation)
    if box is None:
        return Lesions((), 0)
    reference, prediction = reference[box], prediction[box]
    parts = components(prediction)
    lesions, pairs = (_matched if rules.one_to_one else _grown)(reference, parts, rules)
    measure = _Measure(lesions, parts, tuple(spacing), rules.distance, whole)
    found = tuple(measure(number, chosen) for number, chosen in pairs)
    belonging = {part for _, chosen in pairs for part in chosen}
    return Lesions(found, int(parts.max()) - len(belonging))


Pairs = list[tuple[int, list[int]]]


def _matched(reference: Mask, parts: Labels, _: LesionRules) -> tuple[Labels, Pairs]:
    """One part at most for each component of the reference, with the largest sum of Dice."""
    lesions = components(reference)
    count, other = int(lesions.max()), int(parts.max())
    both = (lesions > 0) & (parts > 0)
    codes = (lesions[both].astype(np.int64) - 1) * other + parts[both] - 1
    common = np.bincount(codes, minlength=count * other).reshape(count, other)
    sizes = np.bincount(lesions.ravel(), minlength=count + 1)[1:], np.bincount(parts.ravel(), minlength=other + 1)[1:]
    dice = 2.0 * common / (sizes[0][:, None] + sizes[1][None, :])
    # a pair without overlap costs a little more than any other, so that none is preferred to it
    cost = np.where(dice >= LEAST_DICE, 1.0 - dice, 1.0 + LEAST_DICE)
    pairs: dict[int, list[int]] = {number: [] for number in range(1, count + 1)}
    for row, column in zip(*linear_sum_assignment(cost), strict=True):
        if cost[row, column] < 1.0:
            pairs[int(row) + 1] = [int(column) + 1]
    return lesions, list(pairs.items())


def _grown(reference: Mask, parts: Labels, rules: LesionRules) -> tuple[Labels, Pairs]:
    """Components of the grown reference are the lesions; every part that reaches into one belongs to it."""
    plain, count = components(reference), int(parts.max())
    touched = np.flatnonzero(np.bincount(parts[reference], minlength=1))
    if plain.max() <= 1 and np.count_nonzero(touched) == count:  # nothing to join, nothing beyond
        return plain, [(1, list(range(1, count + 1)))] if plain.max() else []
    near = box_of(reference, margin=rules.dilation)
    if near is None:
        return plain, []
    structure = generate_binary_structure(reference.ndim, min(2, reference.ndim))
    reach = components(binary_dilation(reference[near], structure=structure, iterations=rules.dilation))
    inside = (reach > 0) & (parts[near] > 0)
    codes = np.unique(reach[inside].astype(np.int64) * (count + 1) + parts[near][inside])
    pairs: Pairs = [(number, []) for number in range(1, int(reach.max()) + 1)]
    for number, part in zip((codes // (count + 1)).tolist(), (codes % (count + 1)).tolist(), strict=True):
        pairs[number - 1][1].append(part)
    plain[near] = np.where(reference[near], reach, 0)
    return plain, pairs


class _Measure:
    """Measures one lesion and the parts that belong to it, within their box."""

    def __init__(
        self, lesions: Labels, parts: Labels, spacing: tuple[float, ...], distance: str, whole: Surfaces | None
    ) -> None:
        self.lesions, self.parts, self.spacing, self.distance = lesions, parts, spacing, distance
        self.boxes, self.part_boxes = find_objects(lesions), find_objects(parts)
        alone = len(self.boxes) == 1 and whole is not None
        self.whole = whole if alone else None

    def __call__(self, number: int, chosen: list[int]) -> Lesion:
        own = self.boxes[number - 1]
        size = int(np.count_nonzero(self.lesions[own] == number))
        mm3 = float(size * prod(self.spacing))
        if not chosen:
            return Lesion(mm3, 0.0, np.nan, np.nan, found=False)
        box = around([own, *(self.part_boxes[part - 1] for part in chosen)])
        lesion = self.lesions[box] == number
        part = self.parts[box] == chosen[0] if len(chosen) == 1 else np.isin(self.parts[box], chosen)
        dice = 2.0 * np.count_nonzero(lesion & part) / (size + np.count_nonzero(part))
        surfaces = self.whole if len(chosen) == len(self.part_boxes) else None
        surfaces = surfaces or Surfaces.of(lesion, part, self.spacing)
        if self.distance != POOLED:
            return Lesion(mm3, float(dice), surfaces.hd95_directed(), np.nan, found=True)
        return Lesion(mm3, float(dice), surfaces.hd95_pooled(), surfaces.nsd_voxel(min(self.spacing)), found=True)
