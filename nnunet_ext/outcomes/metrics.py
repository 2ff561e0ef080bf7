"""Which metrics a target column has, as a table, and their values with a note where one is undefined."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import isnan
from typing import NamedTuple

import numpy as np

from nnunet_ext.outcomes import class_metrics as classes
from nnunet_ext.outcomes import value_metrics as values
from nnunet_ext.outcomes.cases import Predictions
from nnunet_ext.outcomes.columns import CLASS, ORDINAL, REGRESSION, SURVIVAL, Column

Compute = Callable[[Column, Predictions, np.ndarray], np.ndarray]
TWO_LEVELS = "fewer than two levels occur"
EACH_LEVEL = "a level has no case that it could be computed from"
NO_CASE = "no case, or all are censored"


@dataclass(frozen=True)
class Metric:
    """One row of the table.

    Attributes:
        name: in tables.
        compute: from column, predictions and weights (B, n) to (B,), NaN where undefined.
        undefined: why it may have no value, in a clause.
        higher: whether higher is better; None where neither is.
        scale: what a useless prediction and a perfect one lie apart; None for errors in the column's unit.
        low: smallest possible value.
    """

    name: str
    compute: Compute
    undefined: str
    higher: bool | None = True
    scale: float | None = 1.0
    low: float = 0.0

    @property
    def high(self) -> float:
        """Largest possible value."""
        return np.inf if self.scale is None else 1.0


class Value(NamedTuple):
    """Of a metric; the note says why it is NaN."""

    value: float
    note: str = ""


def _of_confusion(compute: Callable[[np.ndarray], np.ndarray]) -> Compute:
    return lambda column, found, weights: compute(classes.confusion(found, len(column.levels), weights))


def _of_values(compute: Callable[[Predictions, np.ndarray], np.ndarray]) -> Compute:
    return lambda _, found, weights: compute(found, weights)


OF_CLASSES = (
    Metric("accuracy", _of_confusion(classes.accuracy), NO_CASE),
    Metric("balanced_accuracy", _of_confusion(classes.balanced_accuracy), TWO_LEVELS),
    Metric(
        "auc",
        lambda column, found, weights: classes.auc(found, len(column.levels), weights),
        "a level has no case, or all have it, or there are no probabilities",
    ),
    Metric("f1", _of_confusion(classes.f1), EACH_LEVEL),
    Metric("precision", _of_confusion(classes.precision), "a level was never predicted"),
    Metric("recall", _of_confusion(classes.recall), "a level has no case"),
)
OF_LEVELS = (
    Metric("quadratic_kappa", _of_confusion(classes.quadratic_kappa), TWO_LEVELS, low=-1.0),
    Metric("class_mae", _of_confusion(classes.class_mae), NO_CASE, higher=False, scale=None),
)
OF_NUMBERS = (
    Metric("mae", _of_values(values.mae), NO_CASE, higher=False, scale=None),
    Metric("mse", _of_values(values.mse), NO_CASE, higher=False, scale=None),
    Metric("r2", _of_values(values.r2), "fewer than two different true values", low=-np.inf),
)
OF_INTERVALS = (
    Metric("coverage", _of_values(values.coverage), "a case has no interval", higher=None),
    Metric("width", _of_values(values.width), "a case has no interval", higher=None, scale=None),
)
OF_TIMES = (Metric("c_index", _of_values(values.c_index), "no two cases can be compared"),)
PRIMARY: Mapping[str, str] = {CLASS: "auc", ORDINAL: "quadratic_kappa", REGRESSION: "mae", SURVIVAL: "c_index"}
"""The one metric of each kind that a claim is about; the others are told."""


def metrics_of(column: Column) -> tuple[Metric, ...]:
    """Those of a column, bands and cuts included."""
    if column.is_discrete:
        return OF_CLASSES + (OF_LEVELS if column.kind == ORDINAL else ())
    bands = tuple(_within(band) for band in column.bands)
    cuts = (_of_cuts(column.cuts),) if column.cuts else ()
    times = OF_TIMES if column.kind == SURVIVAL else ()
    return times + OF_NUMBERS + bands + cuts + OF_INTERVALS


def metric_named(column: Column, name: str) -> Metric:
    """The column's metric of that name.

    Raises:
        ValueError: it has none.
    """
    known = {metric.name: metric for metric in metrics_of(column)}
    if name not in known:
        raise ValueError(f"{column.name} ({column.kind}) has no metric {name}; it has {', '.join(known)}.")
    return known[name]


def measured(column: Column, found: Predictions) -> dict[str, Value]:
    """Every metric of a column on these cases, each counted once."""
    once = np.ones((1, len(found)))
    return {
        metric.name: value_of(metric, float(metric.compute(column, found, once)[0])) for metric in metrics_of(column)
    }


def value_of(metric: Metric, value: float) -> Value:
    """With the metric's reason where it is NaN."""
    return Value(value, f"undefined: {metric.undefined}" if isnan(value) else "")


def _within(band: float) -> Metric:
    compute = partial(_band, band)
    return Metric(f"within_{band:g}", compute, NO_CASE)


def _band(band: float, _: Column, found: Predictions, weights: np.ndarray) -> np.ndarray:
    return values.within(found, band, weights)


def _of_cuts(cuts: tuple[float, ...]) -> Metric:
    return Metric(
        "accuracy_of_classes",
        lambda _, found, weights: values.accuracy_of_classes(found, cuts, weights),
        NO_CASE,
    )
