"""Ensembles of case-level predictions: weights from validation predictions only, then applied to other cases.

Numbers are averaged, levels by their probabilities. Weights are inverse to the error, or the best of a grid on the
simplex (all shares that are multiples of ``STEP`` and sum to 1); scipy's optimisers are not used, for the loss of a few
models on a few cases is flat and full of ties, which a grid decides for the most even weights.

Shapes: M models, n cases, L levels.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations, pairwise
from math import comb

import numpy as np

from nnunet_ext.outcomes.cases import Predictions
from nnunet_ext.outcomes.columns import Column

STEP = 0.1
MOST_POINTS = 200_000
"""Of the grid; 9 models at the step of 0.1 have 43,758."""


def losses(column: Column, models: Sequence[Predictions]) -> np.ndarray:
    """(M,) what weights are inverse to: mean absolute error, or the Brier score of levels.

    Censored cases do not count.
    """
    return np.array([_loss(column, found) for found in models])


def inverse_error(column: Column, models: Sequence[Predictions]) -> np.ndarray:
    """(M,) weights proportional to 1 / loss on the validation cases; models without any error share all of it."""
    found = losses(column, models)
    raw = (found == 0).astype(float) if (found == 0).any() else 1 / found
    return raw / raw.sum()


def grid_search(column: Column, models: Sequence[Predictions], step: float = STEP) -> np.ndarray:
    """(M,) weights of the grid with the smallest loss on the validation cases; of equal ones the most even.

    Raises:
        ValueError: the grid of so many models would be too large.
    """
    points = simplex(len(models), step)
    found = np.array([_loss(column, combined(column, models, weights)) for weights in points])
    evenness = (points**2).sum(1)
    order = np.lexsort((evenness, np.round(found, 12)))
    return points[order[0]]


METHODS: Mapping[str, Callable[[Column, Sequence[Predictions]], np.ndarray]] = {
    "inverse-error": inverse_error,
    "grid": grid_search,
}
"""How weights are found, by the names of the command's option."""


def simplex(models: int, step: float = STEP) -> np.ndarray:
    """(points, M) all weights that are multiples of the step and sum to 1."""
    parts = round(1 / step)
    count = comb(parts + models - 1, models - 1)
    if count > MOST_POINTS:
        raise ValueError(
            f"A grid of {models} models at the step {step} has {count} points; choose fewer, the best k, or weights "
            f"by inverse-error."
        )
    return np.array(list(_compositions(models, parts)), float) / parts


def combined(column: Column, models: Sequence[Predictions], weights: np.ndarray) -> Predictions:
    """Predictions of the weighted mean; the ends of intervals are averaged as well.

    Raises:
        ValueError: a model gives no probabilities of levels, or the models' truths differ.
    """
    first = models[0]
    if any(len(m) != len(first) or not np.array_equal(m.truth, first.truth, equal_nan=True) for m in models):
        raise ValueError(f"Models of an ensemble are of the same cases and truth of {column.name}; these are not.")
    if not column.is_discrete:
        mean = {n: np.average([getattr(m, n) for m in models], axis=0, weights=weights) for n in _NUMBERS}
        return replace(first, **mean)
    given = [m.probability for m in models if m.probability is not None]
    if len(given) < len(models):
        raise ValueError(f"A model gives no probabilities of {column.name}, which an ensemble averages; leave it out.")
    probability = np.average(given, axis=0, weights=weights)
    return replace(first, prediction=probability.argmax(1), probability=probability)


def refuse_overlap(seen: Mapping[str, str], test: Mapping[str, str]) -> None:
    """Refuses an external test that models or weights could have seen.

    Args:
        seen: case -> patient of what models were trained or validated with.
        test: case -> patient of what they are judged on.

    Raises:
        ValueError: a case or a patient is in both.
    """
    if cases := sorted(set(seen) & set(test)):
        raise ValueError(
            f"The case {cases[0]} of the external test was trained or validated with ({len(cases)} of its "
            f"{len(test)} were); leave it out of the test."
        )
    of_patient = {patient: case for case, patient in sorted(seen.items(), reverse=True)}
    if cases := sorted(case for case, patient in test.items() if patient in of_patient):
        raise ValueError(
            f"The case {cases[0]} of the external test is of the same patient as {of_patient[test[cases[0]]]}, which "
            f"was trained or validated with ({len(cases)} of its {len(test)} are of such patients); leave all cases "
            "of that patient out of the test."
        )


_NUMBERS = ("prediction", "lower", "upper")


def _loss(column: Column, found: Predictions) -> float:
    seen = ~found.censored.astype(bool)
    if not column.is_discrete:
        return float(np.abs(found.prediction - found.truth)[seen].mean())
    truth = np.eye(len(column.levels))[found.truth.astype(int)]
    given = np.eye(len(column.levels))[found.prediction.astype(int)] if found.probability is None else found.probability
    return float(((given - truth) ** 2).sum(1).mean())


def _compositions(models: int, parts: int) -> Iterator[tuple[int, ...]]:
    """All ways to share ``parts`` among the models: bars between the parts."""
    for bars in combinations(range(parts + models - 1), models - 1):
        edges = (-1, *bars, parts + models - 1)
        yield tuple(after - before - 1 for before, after in pairwise(edges))
