"""Bootstrap intervals of the mean over folds of any metric, for patients and, where there are several, seeds.

Within every fold patients are drawn with replacement, with all their cases, and each training of the fold for itself
(crossed factors; Owen 2007, 10.1214/07-AOAS122). What the draws spread is stretched: a sample of m patients spreads
less than the population by (m - 1) / m (Davison and Hinkley 1997, section 2.3), and few patients know their own spread
badly, so the quantiles are those of a t-distribution instead of the normal one.

scipy's ``bootstrap`` draws single observations, without patients, folds or pairs of methods; hence this one.

Shapes: F folds, S seeds, B draws, n cases of a fold.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan, sqrt

import numpy as np
from scipy import stats

DRAWS = 2000
LEVEL = 0.95
MOST_UNDEFINED = 0.05
"""Share of draws without a value beyond which an interval would be that of the others only, and is not given."""


@dataclass(frozen=True)
class Interval:
    """Of a mean over folds.

    Attributes:
        value: the mean over the folds in which the metric is defined; NaN where there is none.
        low, high: NaN without an interval.
        folds: in how many the metric is defined.
        note: what is undefined, and why there is no interval.
    """

    value: float
    low: float
    high: float
    folds: int
    note: str = ""


def weights_of(patients: Sequence[str], generator: np.random.Generator, draws: int = DRAWS) -> np.ndarray:
    """(draws, n) how often each case counts when patients are drawn with replacement."""
    names, of_case = np.unique(np.asarray(patients, str), return_inverse=True)
    counts = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    return counts[:, of_case].astype(float)


def mean_of_folds(values: np.ndarray) -> np.ndarray:
    """Mean over the first axis of what is defined, NaN where nothing is."""
    known = ~np.isnan(values)
    count = known.sum(0)
    total = np.where(known, values, 0).sum(0)
    return np.divide(total, count, out=np.full(np.shape(total), nan), where=count > 0)


def interval(
    full: np.ndarray,
    drawn: np.ndarray,
    patients: Sequence[int],
    generator: np.random.Generator,
    *,
    level: float = LEVEL,
    limits: tuple[float, float] = (-np.inf, np.inf),
) -> Interval:
    """Of a metric or of the difference of two.

    Args:
        full: (F, S) with every case counted once.
        drawn: (F, S, B) under the weights of :func:`weights_of`.
        patients: number in each fold.
        generator: draws the seeds.
        level: of confidence.
        limits: beyond which the metric cannot be.
    """
    per_fold = full.mean(1)
    value, defined = float(mean_of_folds(per_fold)), int((~np.isnan(per_fold)).sum())
    told = "" if defined == len(full) else f"defined in {defined} of {len(full)} folds"
    draws = mean_of_folds(_over_seeds(drawn, generator))
    undefined = float(np.isnan(draws).mean())
    reason = _no_interval(patients, undefined, value)
    if reason:
        return Interval(value, nan, nan, defined, "; ".join(filter(None, (told, reason))))
    stretch = _stretch(patients, level)
    quantiles = np.nanquantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    # around the draws' own centre: metrics such as R2 are biased downwards in samples with repeated cases
    low, high = np.clip(value + (quantiles - np.nanmedian(draws)) * stretch, *limits)
    return Interval(value, float(low), float(high), defined, told)


def _over_seeds(drawn: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """(F, B) means over trainings drawn with replacement."""
    n_folds, n_seeds, draws = drawn.shape
    if n_seeds == 1:
        return drawn[:, 0]
    shares = generator.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=(n_folds, draws)) / n_seeds
    centre = drawn.mean(1, keepdims=True)
    # few seeds spread less than all that there could be, by (S - 1) / S
    stretched = centre + (drawn - centre) * sqrt(n_seeds / (n_seeds - 1))
    return np.einsum("fsb,fbs->fb", stretched, shares)


def _no_interval(patients: Sequence[int], undefined: float, value: float) -> str:
    """Why there is none, in a clause; empty where there is one."""
    if np.isnan(value):
        return "no fold has a value"
    if min(patients) < 2:
        return "no interval: a fold has a single patient"
    if undefined > MOST_UNDEFINED:
        return f"no interval: undefined in {undefined:.0%} of the draws"
    return ""


def _stretch(patients: Sequence[int], level: float) -> float:
    """By what deviations of draws at ``LEVEL`` are multiplied."""
    per_fold = sum(patients) / len(patients)
    quantile = stats.t.ppf((1 + level) / 2, sum(patients) - len(patients)) / stats.norm.ppf((1 + LEVEL) / 2)
    return float(quantile * sqrt(per_fold / (per_fold - 1)))
