"""One case: from two files to a record, whatever is wrong with them."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isnan, nan
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_ext.evaluation import reading, roi
from nnunet_ext.evaluation.conventions import CONVENTIONS
from nnunet_ext.evaluation.metrics import failed, measure, values
from nnunet_ext.evaluation.regions import ET, NCR, Scheme
from nnunet_ext.evaluation.surfaces import box_of

COMPARED = (
    *("Dice", "HD95_pooled", "HD95_directed"),
    *("lesionwise_Dice", "lesionwise_HD95", "lesions_tp", "lesions_fp", "lesions_fn"),
)
"""Metrics of which every convention has an opinion."""
SAME = 1e-9


@dataclass(frozen=True)
class Pair:
    """The files of a case; None for one that is not there. ``roi`` is the report of a cascade."""

    case: str
    reference: Path | None
    prediction: Path | None
    roi: Path | None = None


@dataclass(frozen=True)
class Settings:
    """What decides the values.

    Attributes:
        reference: what the labels of the references mean.
        prediction: what those of the predictions mean.
        convention: a name in CONVENTIONS.
        tolerances: mm, of the NSD.
        et_threshold: a prediction with fewer voxels of enhancing tumour than this has none: they become necrosis.
    """

    reference: Scheme
    prediction: Scheme
    convention: str
    tolerances: tuple[float, ...] = (1.0,)
    et_threshold: int = 0


@dataclass(frozen=True)
class Volumes:
    """The classes of both files within the box around all of them.

    Attributes:
        reference: numbers of classes, (Z, Y, X) or (Y, X).
        prediction: of the same shape.
        voxels: of the whole volume that count.
        spacing: mm, in the order of the axes.
        note: what a reader should know; empty if nothing.
        seen: what a cascade's segmentation network saw, of the same shape; None without a cascade.
    """

    reference: NDArray[np.uint8]
    prediction: NDArray[np.uint8]
    voxels: int
    spacing: tuple[float, ...]
    note: str
    seen: NDArray[np.bool_] | None = None


def evaluate(pair: Pair, settings: Settings) -> dict[str, Any]:
    """The record of a case, as :mod:`nnunet_ext.evaluation.table` describes it."""
    try:
        volumes = load(pair, settings)
    except reading.UnreadableError as reason:
        return failure(pair, settings, str(reason))
    return {"case": pair.case, "failure": "", "note": volumes.note, **_measured(volumes, settings)}


def failure(pair: Pair, settings: Settings, reason: str) -> dict[str, Any]:
    """The record of a case that could not be compared: the convention's worst values, and why."""
    worst = failed(CONVENTIONS[settings.convention], settings.tolerances)
    worst |= dict.fromkeys(roi.METRICS, nan) if pair.roi else {}
    regions = {name: {"values": dict(worst), "note": ""} for name in settings.reference.regions}
    return {"case": pair.case, "failure": reason, "note": "", "regions": regions, "confusion": None, "conventions": {}}


def load(pair: Pair, settings: Settings) -> Volumes:
    """Reads both files.

    Raises:
        UnreadableError: one is missing or damaged, they do not fit together, or have labels that are not the edition's.
    """
    if pair.prediction is None or pair.reference is None:
        which = "prediction" if pair.prediction is None else "reference"
        raise reading.UnreadableError(f"There is no {which} for {pair.case}.")
    reference, prediction = reading.read(pair.reference), reading.read(pair.prediction)
    why = reading.difference(reference, prediction)
    if why:
        raise reading.UnreadableError(f"{pair.prediction.name} {why}.")
    box = box_of((reference.labels != 0) | (prediction.labels != 0)) or (slice(0, 1),) * reference.labels.ndim
    true, given = (np.ascontiguousarray(labels[box]) for labels in (reference.labels, prediction.labels))
    _check_labels(pair.reference, true, settings.reference)
    _check_labels(pair.prediction, given, settings.prediction)
    classes, predicted = settings.reference.classes_of(true), settings.prediction.classes_of(given)
    voxels = reference.labels.size
    if settings.reference.ignore is not None:
        ignored = true == settings.reference.ignore
        predicted = np.where(ignored, np.uint8(0), predicted)
        voxels -= int(np.count_nonzero(ignored))
    seen = roi.seen(pair.roi, reference.labels.shape)[box] if pair.roi else None
    return Volumes(classes, predicted, voxels, reference.spacing, reading.displacement(reference, prediction), seen)


def _check_labels(path: Path, labels: NDArray[np.integer], scheme: Scheme) -> None:
    foreign = scheme.foreign(reading.labels_in(labels))
    if foreign:
        shown, legal = ", ".join(map(str, foreign)), ", ".join(map(str, (0, *scheme.labels)))
        raise reading.UnreadableError(f"{path.name} has the label {shown}; {scheme.name} has {legal}.")


def without_few(classes: NDArray[np.uint8], threshold: int) -> NDArray[np.uint8]:
    """The prediction with its enhancing tumour relabelled as necrosis if it has fewer than ``threshold`` voxels."""
    enhancing = classes == ET
    if 0 < np.count_nonzero(enhancing) < threshold:
        return np.where(enhancing, np.uint8(NCR), classes)
    return classes


def _measured(volumes: Volumes, settings: Settings) -> dict[str, Any]:
    true, given = volumes.reference, without_few(volumes.prediction, settings.et_threshold)
    regions, conventions = {}, {}
    for name, numbers in settings.reference.regions.items():
        facts = measure(
            _mask(true, numbers), _mask(given, numbers), volumes.spacing, volumes.voxels, settings.tolerances
        )
        every = {c: values(facts, row, settings.tolerances) for c, row in CONVENTIONS.items()}
        limits = {} if volumes.seen is None else roi.limits(_mask(true, numbers), volumes.seen)
        regions[name] = {"values": {**every[settings.convention], **limits}, "note": facts.note()}
        unequal = [metric for metric in COMPARED if _differ([v[metric] for v in every.values()])]
        if unequal:
            conventions[name] = {metric: {c: v[metric] for c, v in every.items()} for metric in unequal}
    confusion = _confusion(true, given, len(settings.reference.classes) + 1, volumes.voxels)
    return {"regions": regions, "confusion": confusion.tolist(), "conventions": conventions}


def _confusion(true: NDArray[np.uint8], given: NDArray[np.uint8], number: int, voxels: int) -> NDArray[np.int64]:
    """(number, number), a row a class of the reference; what is background in both is the rest of ``voxels``."""
    there = np.flatnonzero(true | given)
    codes = true.ravel()[there].astype(np.int64) * number + given.ravel()[there]
    found: NDArray[np.int64] = np.bincount(codes, minlength=number**2).reshape(number, number)
    found[0, 0] = voxels - int(found.sum())
    return found


def _mask(classes: NDArray[np.uint8], numbers: tuple[int, ...]) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = classes == numbers[0]
    for number in numbers[1:]:
        found |= classes == number
    return found


def _differ(given: list[float]) -> bool:
    """Whether the conventions disagree; NaN, a case that leaves the mean, is a value of its own."""
    known = [value for value in given if not isnan(value)]
    if 0 < len(known) < len(given):
        return True
    return bool(known) and max(known) != min(known) and not max(known) - min(known) <= SAME


def as_plain(scheme: Scheme) -> Mapping[str, Any]:
    """The scheme for JSON."""
    return {
        "name": scheme.name,
        "labels": {str(label): scheme.classes[number - 1] for label, number in scheme.labels.items()},
        "regions": {name: [scheme.classes[n - 1] for n in numbers] for name, numbers in scheme.regions.items()},
        "ignore": scheme.ignore,
    }
