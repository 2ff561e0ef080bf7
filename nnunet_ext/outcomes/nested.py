"""Nested cross-validation: what is chosen by inner folds is tested on cases that had no part in the choice.

Taking the best of several models by the folds on which it is then reported rewards luck; the difference to the nested
value is how much (Cawley and Talbot 2010, jmlr.org/papers/v11/cawley10a.html). scikit-learn nests its own estimators
only; here a candidate is any function, such as one that reads the predictions of a trained network.

Shapes: n cases; a split is two arrays of indices into them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from nnunet_ext.outcomes.bootstrapping import mean_of_folds
from nnunet_ext.outcomes.cases import Predictions
from nnunet_ext.outcomes.columns import Column
from nnunet_ext.outcomes.metrics import measured
from nnunet_ext.outcomes.selection import best


class Split(NamedTuple):
    """Indices of the cases that are trained on, and of those that are tested."""

    training: np.ndarray
    test: np.ndarray


FitPredict = Callable[[Split], Predictions]
"""Fits on the training cases of a split and predicts its test cases, in their order."""


@dataclass(frozen=True)
class Nested:
    """What came out.

    Attributes:
        chosen: the candidate of each outer fold; empty where none passed the rule.
        values: metric -> mean over the outer folds of what was chosen inside each, NaN where nothing was.
        optimistic: the same of the candidate that looks best on the outer folds themselves, for comparison only.
    """

    chosen: tuple[str, ...]
    values: Mapping[str, float]
    optimistic: Mapping[str, float]


def nested(
    column: Column,
    candidates: Mapping[str, FitPredict],
    outer: Sequence[Split],
    inner: Callable[[np.ndarray], Sequence[Split]],
    patients: Sequence[str],
) -> Nested:
    """Chooses by the column's rule (:mod:`.selection`) inside every outer fold, and tests outside.

    Args:
        column: what is predicted.
        candidates: name -> function.
        outer: splits of all cases.
        inner: gives splits of the outer training cases, as indices into all cases.
        patients: (n,) to whom each case belongs.

    Raises:
        ValueError: a split tests a patient that it trains on, or an inner split touches an outer test case.
    """
    names = np.asarray(patients, str)
    tested: list[dict[str, float]] = []
    chosen: list[str] = []
    outside = {name: [_values(column, fit(split)) for split in outer] for name, fit in candidates.items()}
    for place, split in enumerate(outer):
        splits = inner(split.training)
        refuse_leaks([split, *splits], names, allowed=split.training)
        means = {name: _means([_values(column, fit(s)) for s in splits]) for name, fit in candidates.items()}
        found = best(column, means).names
        chosen += [found[0] if found else ""]
        tested += [outside[found[0]][place] if found else dict.fromkeys(means[next(iter(means))], np.nan)]
    return Nested(tuple(chosen), _means(tested), _best_outside(column, outside))


def refuse_leaks(splits: Sequence[Split], patients: np.ndarray, allowed: np.ndarray) -> None:
    """Refuses splits that let a patient be trained on and tested, or that reach beyond the allowed cases.

    Args:
        splits: the outer one first.
        patients: (n,).
        allowed: indices that the others may use.

    Raises:
        ValueError: a split does so.
    """
    for place, split in enumerate(splits):
        both = set(patients[split.training]) & set(patients[split.test])
        if both:
            raise ValueError(f"The patient {min(both)} is trained on and tested in one split; split by patient.")
        beyond = set(np.concatenate(split).tolist()) - set(allowed.tolist())
        if place and beyond:
            raise ValueError(
                f"An inner split uses case {min(beyond)}, which the outer one tests; split its training cases."
            )


def _values(column: Column, found: Predictions) -> dict[str, float]:
    return {name: value for name, (value, _) in measured(column, found).items()}


def _means(folds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    values = np.array([list(fold.values()) for fold in folds])
    return dict(zip(folds[0], mean_of_folds(values).tolist(), strict=True))


def _best_outside(column: Column, outside: Mapping[str, Sequence[Mapping[str, float]]]) -> Mapping[str, float]:
    means = {name: _means(values) for name, values in outside.items()}
    found = best(column, means).names
    return means[found[0]] if found else {}
