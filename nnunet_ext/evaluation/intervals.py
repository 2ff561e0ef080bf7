"""Bootstrap intervals of a method's mean that respect seeds and folds.

Within every fold trainings and cases are drawn with replacement, each for itself, because each new training would score
new cases (crossed factors; Owen 2007, doi:10.1214/07-AOAS122). What a few seeds spread is less than what their
population does by (S - 1) / S, so the drawn deviations are stretched by its root (Davison and Hinkley 1997, section
2.3). Intervals of the median are not offered: the bootstrap fails for them at these sizes.

Written here because scipy's ``bootstrap`` draws from independent observations only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from nnunet_ext.evaluation.variance import mean_squares

DRAWS = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """Mean over seeds and cases, standard deviation over cases, interval of the mean; None where it would mislead."""

    mean: float
    sd: float
    low: float | None
    high: float | None


def mean_interval(values: np.ndarray, folds: Sequence[np.ndarray], seed: int = 0) -> Interval:
    """Of scores (S, C).

    With one seed the interval holds for this one training of each fold only: it says what other cases would give.
    """
    of_cases = values.mean(0)
    mean, sd = float(of_cases.mean()), float(of_cases.std(ddof=1)) if of_cases.size > 1 else 0.0
    if of_cases.size <= len(folds):
        return Interval(mean, sd, None, None)
    drawn = _drawn(values, folds, np.random.default_rng(seed))
    # percentiles of a t-distribution instead of the normal one: few seeds know their own spread badly
    df = mean_squares(values, folds).degrees_of_freedom() if len(values) > 1 else of_cases.size - len(folds)
    stretch = stats.t.ppf((1 + LEVEL) / 2, df) / stats.norm.ppf((1 + LEVEL) / 2)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(mean, sd, mean + float(low) * stretch, mean + float(high) * stretch)


def _drawn(values: np.ndarray, folds: Sequence[np.ndarray], generator: np.random.Generator) -> np.ndarray:
    """Deviations of the mean of (S, C) in ``DRAWS`` repetitions of the experiment."""
    n_seeds, n_cases = values.shape
    total = np.zeros(DRAWS)
    for cases in folds:
        y = values[:, cases]
        centre = y.mean()
        deviations = (y.mean(0) - centre) * np.sqrt(len(cases) / max(len(cases) - 1, 1))
        total += deviations[generator.integers(len(cases), size=(DRAWS, len(cases)))].sum(1)
        if n_seeds > 1:
            runs = (y.mean(1) - centre) * np.sqrt(n_seeds / (n_seeds - 1))
            total += len(cases) * runs[generator.integers(n_seeds, size=(DRAWS, n_seeds))].mean(1)
    return total / n_cases
