"""What may be said of methods on few cases: metrics of each fold, then averaged, with intervals, against baselines.

Metrics are never computed on the pooled predictions of several folds: the models of different folds are shifted
against each other, so that the pooled leave-one-out predictions of a constant correlate with the truth at -1.

A claim is about the primary metric of a column (:data:`.metrics.PRIMARY`) and needs a paired difference from *every*
baseline whose interval excludes 0. The intervals are those of 95 % for all methods and columns of a comparison together
(Bonferroni). The patients of a test set are drawn anew, the trainings are not, so with one seed all of it holds for
these trainings only.

Shapes: F folds, S seeds, B draws.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from nnunet_ext.outcomes.bootstrapping import DRAWS, LEVEL, Interval, interval, weights_of
from nnunet_ext.outcomes.cases import Predictions
from nnunet_ext.outcomes.columns import Column
from nnunet_ext.outcomes.metrics import PRIMARY, Metric, metric_named, metrics_of, value_of

FEWEST_PATIENTS = 30
WIDEST = 1 / 3
"""Of the distance between useless and perfect; an interval that is wider proves nothing."""


@dataclass(frozen=True)
class Fold:
    """The test cases of one fold and what each method says of them.

    Attributes:
        name: as nnU-Net numbers it, or ``test``.
        cases: their names.
        patients: (n,) to whom each belongs.
        methods: name -> predictions of each seed, in the order of ``cases``; baselines have one.
    """

    name: str
    cases: tuple[str, ...]
    patients: tuple[str, ...]
    methods: Mapping[str, tuple[Predictions, ...]]


@dataclass(frozen=True)
class Difference:
    """A method against a baseline in one metric.

    Attributes:
        method, baseline, metric: their names.
        gain: interval of how much the method is better; errors count downwards.
        level: of its confidence.
    """

    method: str
    baseline: str
    metric: str
    gain: Interval
    level: float

    @property
    def better(self) -> bool:
        """Whether the interval excludes that the method is no better; never without an interval."""
        return self.gain.low > 0


class Drawn:
    """Values of metrics under the same draws of patients for all methods."""

    def __init__(self, column: Column, folds: Sequence[Fold], seed: int = 0, draws: int = DRAWS) -> None:
        """Draws the patients.

        Args:
            column: what is predicted.
            folds: whose patients are different ones.
            seed: of the draws.
            draws: their number.

        Raises:
            ValueError: a case or a patient is in two folds.
        """
        self.column, self.folds, self.seed = column, folds, seed
        refuse_shared_patients(folds)
        generator = np.random.default_rng(seed)
        self.weights = [weights_of(fold.patients, generator, draws) for fold in folds]
        self.patients = [len(set(fold.patients)) for fold in folds]
        self._kept: dict[tuple[str, str], tuple[np.ndarray, np.ndarray]] = {}

    def values(self, method: str, metric: Metric) -> tuple[np.ndarray, np.ndarray]:
        """(F, S) with every case counted once, and (F, S, B) of the draws."""
        key = (method, metric.name)
        if key not in self._kept:
            both = [self._of_fold(fold, method, metric, w) for fold, w in zip(self.folds, self.weights, strict=True)]
            self._kept[key] = np.stack([b[:, 0] for b in both]), np.stack([b[:, 1:] for b in both])
        return self._kept[key]

    def interval(self, method: str, metric: Metric) -> Interval:
        """Of the mean over folds."""
        full, drawn = self.values(method, metric)
        return self._interval(full, drawn, LEVEL, (metric.low, metric.high))

    def difference(self, method: str, baseline: str, metric: Metric, level: float = LEVEL) -> Difference:
        """By how much a method is better than a baseline, on the same draws."""
        sign = 1 if metric.higher else -1
        (full, drawn), (full_base, drawn_base) = self.values(method, metric), self.values(baseline, metric)
        gain = self._interval(sign * (full - full_base), sign * (drawn - drawn_base), level, (-np.inf, np.inf))
        return Difference(method, baseline, metric.name, gain, level)

    def _of_fold(self, fold: Fold, method: str, metric: Metric, weights: np.ndarray) -> np.ndarray:
        """(S, 1 + B)."""
        with_all = np.concatenate([np.ones((1, len(fold.cases))), weights])
        return np.stack([metric.compute(self.column, seed, with_all) for seed in fold.methods[method]])

    def _interval(self, full: np.ndarray, drawn: np.ndarray, level: float, limits: tuple[float, float]) -> Interval:
        generator = np.random.default_rng(self.seed + 1)
        return interval(full, drawn, self.patients, generator, level=level, limits=limits)


def refuse_shared_patients(folds: Sequence[Fold]) -> None:
    """Refuses folds of which two test the same case, or cases of the same patient.

    Raises:
        ValueError: they do.
    """
    _refuse_shared_cases(folds)
    seen: dict[str, tuple[str, str]] = {}
    for fold in folds:
        of_fold = dict(zip(reversed(fold.patients), reversed(fold.cases), strict=True))
        if shared := [patient for patient in fold.patients if patient in seen]:
            case, name = seen[shared[0]]
            raise ValueError(
                f"{case} in fold {name} and {of_fold[shared[0]]} in fold {fold.name} are of one patient, so each fold "
                "was trained with the other's patient; make folds by patient and train again."
            )
        seen |= {patient: (case, fold.name) for patient, case in of_fold.items()}


def _refuse_shared_cases(folds: Sequence[Fold]) -> None:
    """Of one cross-validation each case is validated once."""
    seen: dict[str, str] = {}
    for fold in folds:
        if shared := [case for case in fold.cases if case in seen]:
            raise ValueError(
                f"{shared[0]} is validated in fold {seen[shared[0]]} and in fold {fold.name}, so these are no folds of "
                "one cross-validation (the converter's fold 5 is a hold-out of its own); name the folders of those "
                "that are, such as MODEL/fold_0 MODEL/fold_1."
            )
        seen |= dict.fromkeys(fold.cases, fold.name)


def fold_table(column: Column, folds: Sequence[Fold]) -> pd.DataFrame:
    """One row for each method, fold, seed and metric: method, fold, seed (from 0), metric, value, cases, note."""
    return pd.DataFrame(_fold_rows(column, folds))


def _fold_rows(column: Column, folds: Sequence[Fold]) -> Iterator[dict[str, Any]]:
    for fold in folds:
        for method, seeds in fold.methods.items():
            for place, found in enumerate(seeds):
                once = np.ones((1, len(found)))
                for metric in metrics_of(column):
                    value, note = value_of(metric, float(metric.compute(column, found, once)[0]))
                    row = {"column": column.name, "method": method, "fold": fold.name, "seed": place}
                    yield {**row, "metric": metric.name, "value": value, "cases": len(found), "note": note}


def summary_table(drawn: Drawn) -> pd.DataFrame:
    """One row for each method and metric: the mean over folds with its interval, the note, and the counts."""
    cases = sum(len(fold.cases) for fold in drawn.folds)
    rows = []
    for method, seeds in drawn.folds[0].methods.items():
        for metric in metrics_of(drawn.column):
            found = drawn.interval(method, metric)
            row = {"column": drawn.column.name, "method": method, "metric": metric.name, **vars(found)}
            counts = {"all_folds": len(drawn.folds), "seeds": len(seeds), "cases": cases}
            rows.append({**row, **counts, "patients": sum(drawn.patients)})
    return pd.DataFrame(rows)


def level_for(comparisons: int) -> float:
    """Of intervals that hold for so many methods and columns together (Bonferroni)."""
    return 1 - (1 - LEVEL) / max(comparisons, 1)


def differences(
    drawn: Drawn, methods: Sequence[str], baselines: Sequence[str], level: float = LEVEL
) -> list[Difference]:
    """Every method against every baseline in every metric that has a better side.

    Args:
        drawn: the draws.
        methods: names.
        baselines: names.
        level: of the intervals, see :func:`level_for`.
    """
    metrics = [metric for metric in metrics_of(drawn.column) if metric.higher is not None]
    return [drawn.difference(m, b, metric, level) for m in methods for b in baselines for metric in metrics]


def proves_nothing(found: Interval, patients: int, span: float) -> bool:
    """Whether so few patients leave everything open.

    Args:
        found: of the primary metric.
        patients: that were tested.
        span: distance between a useless and a perfect value of the metric, see :func:`span_of`.

    Returns:
        True for fewer than ``FEWEST_PATIENTS`` patients, without an interval, or with one wider than ``WIDEST`` of the
        span.
    """
    wide = not found.high - found.low <= WIDEST * span  # NaN is not narrow
    return patients < FEWEST_PATIENTS or wide


def span_of(drawn: Drawn, metric: Metric, baselines: Sequence[str]) -> float:
    """1 for shares, AUC, C-index and kappa; for errors the best baseline's, since a perfect prediction has none."""
    if metric.scale is not None:
        return metric.scale
    values = [drawn.interval(name, metric).value for name in baselines]
    return float(np.nanmin(values)) if values else np.nan


def primary_of(column: Column, drawn: Drawn, methods: Sequence[str]) -> Metric:
    """The metric that claims are about: balanced accuracy instead of AUC where a method gives no probabilities."""
    metric = metric_named(column, PRIMARY[column.kind])
    blind = any(p.probability is None for fold in drawn.folds for m in methods for p in fold.methods[m])
    return metric_named(column, "balanced_accuracy") if metric.name == "auc" and blind else metric
