"""Metrics of numbers and of survival times under many weightings of the cases at once.

As in :mod:`.class_metrics`; lifelines is the oracle of the C-index in the tests. Errors, R2, bands and intervals take
no account of censored cases, whose number is unknown: only the C-index can use them.

Shapes: B weightings, n cases.
"""

import numpy as np

from nnunet_ext.outcomes.cases import Predictions
from nnunet_ext.outcomes.class_metrics import share


def mean(values: np.ndarray, found: Predictions, weights: np.ndarray) -> np.ndarray:
    """(B,) weighted mean of values (n,) over the cases that are not censored."""
    of_known = weights * ~found.censored.astype(bool)
    return share(of_known @ values.astype(float), of_known.sum(1))


def mae(found: Predictions, weights: np.ndarray) -> np.ndarray:
    """(B,) mean absolute error."""
    return mean(np.abs(found.prediction - found.truth), found, weights)


def mse(found: Predictions, weights: np.ndarray) -> np.ndarray:
    """(B,) mean squared error."""
    return mean((found.prediction - found.truth) ** 2, found, weights)


def r2(found: Predictions, weights: np.ndarray) -> np.ndarray:
    """(B,) share of the variance that is explained: negative where the mean of these cases would be better.

    NaN where the truth does not vary, and so for a single case.
    """
    truth = found.truth - found.truth.mean()  # a large offset would cost digits of the variance
    spread = mean(truth**2, found, weights) - mean(truth, found, weights) ** 2
    return 1 - share(mse(found, weights), np.where(spread > 1e-12 * (truth**2).max(), spread, 0))


def within(found: Predictions, band: float, weights: np.ndarray) -> np.ndarray:
    """(B,) share of the cases whose error is at most ``band``."""
    return mean(np.abs(found.prediction - found.truth) <= band, found, weights)


def accuracy_of_classes(found: Predictions, cuts: tuple[float, ...], weights: np.ndarray) -> np.ndarray:
    """(B,) share of the cases predicted in the class of their truth, see :meth:`.columns.Column.cut`."""
    return mean(classes_of(found.truth, cuts) == classes_of(found.prediction, cuts), found, weights)


def classes_of(values: np.ndarray, cuts: tuple[float, ...]) -> np.ndarray:
    """(n,) index of the class of each number, as :meth:`.columns.Column.cut` counts."""
    return (values >= cuts[0]).astype(int) + (values[:, None] > np.asarray(cuts[1:])).sum(1)


def coverage(found: Predictions, weights: np.ndarray) -> np.ndarray:
    """(B,) share of the cases whose truth lies in their interval; NaN where a case has none."""
    inside = np.where(np.isnan(found.lower), np.nan, (found.lower <= found.truth) & (found.truth <= found.upper))
    return mean(inside, found, weights)


def width(found: Predictions, weights: np.ndarray) -> np.ndarray:
    """(B,) mean width of the intervals; NaN where a case has none."""
    return mean(found.upper - found.lower, found, weights)


def c_index(found: Predictions, weights: np.ndarray) -> np.ndarray:
    """(B,) share of the comparable pairs whose predicted order is right; ties of the prediction count half.

    A pair is comparable if the earlier of the two had its event; of two at the same time, if exactly one had (Harrell
    1996, 10.1002/(SICI)1097-0258(19960229)15:4<361::AID-SIM168>3.0.CO;2-4).
    """
    time, censored, predicted = found.truth, found.censored.astype(bool), found.prediction
    later = (time[:, None] < time[None]) | ((time[:, None] == time[None]) & censored[None])
    pairs = (later & ~censored[:, None]).astype(float)  # [i, j]: i had its event first
    right = (predicted[:, None] < predicted[None]) + 0.5 * (predicted[:, None] == predicted[None])
    return share(((weights @ (pairs * right)) * weights).sum(1), ((weights @ pairs) * weights).sum(1))
