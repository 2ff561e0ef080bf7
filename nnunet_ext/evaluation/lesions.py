"""Lesions: connected parts (26 neighbours; 2D: 8) of reference and prediction, and which belong together."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects
from scipy.optimize import linear_sum_assignment

from nnunet_ext.evaluation.conventions import POOLED, LesionRules
from nnunet_ext.evaluation.distances import Surfaces
from nnunet_ext.evaluation.surfaces import Mask, around, box_of, grown

Labels = NDArray[np.integer]
Box = tuple[slice, ...]
LEAST_DICE = 1e-6
ONE_BY_ONE = 3
"""Parts that are looked for one by one."""


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


@dataclass(frozen=True)
class Parts:
    """The components of a mask.

    Attributes:
        labels: their numbers, from 1, in the mask's shape.
        boxes: around each.
        sizes: voxels of each.
    """

    labels: Labels
    boxes: list[Box]
    sizes: NDArray[np.intp]

    @classmethod
    def of(cls, mask: Mask) -> "Parts":
        """All components of a mask."""
        return cls.numbered(components(mask), mask)

    @classmethod
    def numbered(cls, labels: Labels, mask: Mask) -> "Parts":
        """Of a mask whose voxels have numbers already."""
        sizes = np.bincount(labels[mask])[1:]
        return cls(labels, _boxes(labels, len(sizes)), sizes)


def _boxes(labels: Labels, count: int) -> list[Box]:
    """Around the parts 1 to count; a few are found faster one by one than by scipy's search for all."""
    if count > ONE_BY_ONE:
        return list(find_objects(labels))
    return [box for number in range(1, count + 1) if (box := box_of(labels == number))]


def compare(
    reference: Mask,
    prediction: Mask,
    spacing: Sequence[float],
    rules: Sequence[LesionRules],
    whole: Surfaces | None = None,
) -> dict[str, Lesions]:
    """Finds the lesions of both masks and what belongs together, by the name of each of the rules.

    Args:
        reference: (Z, Y, X) or (Y, X).
        prediction: of the same shape.
        spacing: mm, in the order of the axes.
        rules: what a lesion is and what belongs to it.
        whole: distances between the masks, which are those of the lesion where each has but one.
    """
    box = box_of(reference | prediction, margin=max((rule.dilation for rule in rules), default=0))
    if box is None:
        return {rule.name: Lesions((), 0) for rule in rules}
    reference, prediction = reference[box], prediction[box]
    lesions, parts = Parts.of(reference), Parts.of(prediction)
    found = {}
    for rule in rules:
        chosen, pairs = (_matched if rule.one_to_one else _grown)(reference, lesions, parts, rule)
        measured = _Measure(chosen, parts, tuple(spacing), rule.distance, whole)
        belonging = {part for _, own in pairs for part in own}
        extra = len(parts.boxes) - len(belonging)
        found[rule.name] = Lesions(tuple(measured(number, own) for number, own in pairs), extra)
    return found


Pairs = list[tuple[int, list[int]]]
"""A lesion's number and those of the parts that belong to it."""


def _matched(_: Mask, lesions: Parts, parts: Parts, __: LesionRules) -> tuple[Parts, Pairs]:
    """One part at most for each component of the reference, with the largest sum of Dice."""
    count, other = len(lesions.boxes), len(parts.boxes)
    both = (lesions.labels > 0) & (parts.labels > 0)
    codes = (lesions.labels[both].astype(np.int64) - 1) * other + parts.labels[both] - 1
    common = np.bincount(codes, minlength=count * other).reshape(count, other)
    dice = 2.0 * common / (lesions.sizes[:, None] + parts.sizes[None, :])
    # a pair without overlap costs a little more than any other, so that none is preferred to it
    cost = np.where(dice >= LEAST_DICE, 1.0 - dice, 1.0 + LEAST_DICE)
    pairs: dict[int, list[int]] = {number: [] for number in range(1, count + 1)}
    for row, column in zip(*linear_sum_assignment(cost), strict=True):
        if cost[row, column] < 1.0:
            pairs[int(row) + 1] = [int(column) + 1]
    return lesions, list(pairs.items())


def _grown(reference: Mask, lesions: Parts, parts: Parts, rules: LesionRules) -> tuple[Parts, Pairs]:
    """Components of the grown reference are the lesions; every part that reaches into one belongs to it."""
    near = box_of(reference, margin=rules.dilation)
    if near is None:
        return lesions, []
    touching = set(np.flatnonzero(np.bincount(parts.labels[reference])).tolist()) - {0}
    count = len(parts.boxes)
    others = (parts.boxes[part - 1] for part in range(1, count + 1) if part not in touching)
    if len(lesions.boxes) == 1 and not any(_meet(near, box) for box in others):
        return lesions, [(1, sorted(touching))]  # nothing to join, nothing else within reach
    reach = components(grown(reference[near], rules.dilation))
    inside = (reach > 0) & (parts.labels[near] > 0)
    codes = np.unique(reach[inside].astype(np.int64) * (count + 1) + parts.labels[near][inside])
    pairs: Pairs = [(number, []) for number in range(1, int(reach.max()) + 1)]
    for number, part in zip((codes // (count + 1)).tolist(), (codes % (count + 1)).tolist(), strict=True):
        pairs[number - 1][1].append(part)
    joined = np.zeros_like(lesions.labels)
    joined[near] = np.where(reference[near], reach, 0)
    return Parts.numbered(joined, reference), pairs


def _meet(first: Box, second: Box) -> bool:
    return all(a.start < b.stop and b.start < a.stop for a, b in zip(first, second, strict=True))


class _Measure:
    """Measures one lesion and the parts that belong to it, within their box."""

    def __init__(
        self, lesions: Parts, parts: Parts, spacing: tuple[float, ...], distance: str, whole: Surfaces | None
    ) -> None:
        self.lesions, self.parts, self.spacing, self.distance = lesions, parts, spacing, distance
        self.whole = whole if len(lesions.boxes) == 1 else None

    def __call__(self, number: int, chosen: list[int]) -> Lesion:
        own, size = self.lesions.boxes[number - 1], int(self.lesions.sizes[number - 1])
        mm3 = float(size * prod(self.spacing))
        if not chosen:
            return Lesion(mm3, 0.0, np.nan, np.nan, found=False)
        box = around([own, *(self.parts.boxes[part - 1] for part in chosen)])
        lesion = self.lesions.labels[box] == number
        labels = self.parts.labels[box]
        part = labels == chosen[0] if len(chosen) == 1 else np.isin(labels, chosen)
        predicted = int(self.parts.sizes[[number - 1 for number in chosen]].sum())
        dice = 2.0 * np.count_nonzero(lesion & part) / (size + predicted)
        surfaces = self.whole if len(chosen) == len(self.parts.boxes) else None
        surfaces = surfaces or Surfaces.of(lesion, part, self.spacing)
        if self.distance != POOLED:
            return Lesion(mm3, float(dice), surfaces.hd95_directed(), np.nan, found=True)
        return Lesion(mm3, float(dice), surfaces.hd95_pooled(), surfaces.nsd_voxel(min(self.spacing)), found=True)
