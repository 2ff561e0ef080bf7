"""Metrics of classes and ordinal levels under many weightings of the cases at once.

Written here because scikit-learn computes one weighting in a call and the intervals need thousands; the tests compare
each with scikit-learn's. What is undefined is NaN. A macro average is undefined where it is undefined for one level:
leaving the level out would reward a model that never says it.

Shapes: B weightings, n cases, L levels, G groups of equal scores.
"""

import numpy as np

from nnunet_ext.outcomes.cases import Predictions


def share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """``part / whole``, NaN where ``whole`` is 0."""
    part, whole = np.broadcast_arrays(np.asarray(part, float), np.asarray(whole, float))
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole != 0)


def confusion(found: Predictions, levels: int, weights: np.ndarray) -> np.ndarray:
    """(B, L, L) from weights (B, n): a row for each true level, a column for each predicted one."""
    cell = found.truth.astype(int) * levels + found.prediction.astype(int)
    return (weights @ np.eye(levels * levels)[cell]).reshape(-1, levels, levels)


def accuracy(table: np.ndarray) -> np.ndarray:
    """(B,) from (B, L, L): share of the cases on the diagonal."""
    return share(np.trace(table, axis1=1, axis2=2), table.sum((1, 2)))


def balanced_accuracy(table: np.ndarray) -> np.ndarray:
    """(B,) mean recall over the levels that occur; NaN where fewer than two do (Brodersen 2010, 10.1109/ICPR.2010.764).

    Levels without a case have no recall and do not count, as in scikit-learn.
    """
    recalls = share(_diagonal(table), table.sum(2))
    occurs = table.sum(2) > 0
    mean = share(np.where(occurs, recalls, 0).sum(1), occurs.sum(1))
    return np.where(occurs.sum(1) > 1, mean, np.nan)


def recall(table: np.ndarray) -> np.ndarray:
    """(B,) of the positive level of two, macro average of more."""
    return _positive_or_macro(share(_diagonal(table), table.sum(2)))


def precision(table: np.ndarray) -> np.ndarray:
    """(B,) of the positive level of two, macro average of more."""
    return _positive_or_macro(share(_diagonal(table), table.sum(1)))


def f1(table: np.ndarray) -> np.ndarray:
    """(B,) 2 TP / (2 TP + FP + FN), of the positive level of two, macro average of more."""
    return _positive_or_macro(share(2 * _diagonal(table), table.sum(1) + table.sum(2)))


def quadratic_kappa(table: np.ndarray) -> np.ndarray:
    """(B,) agreement beyond chance, weighted by squared distance (Cohen 1968, 10.1037/h0026256); NaN without any."""
    levels = np.arange(table.shape[1])
    cost = (levels[:, None] - levels[None]) ** 2
    by_chance = table.sum(2)[:, :, None] * table.sum(1)[:, None, :]
    return 1 - share((table * cost).sum((1, 2)) * table.sum((1, 2)), (by_chance * cost).sum((1, 2)))


def class_mae(table: np.ndarray) -> np.ndarray:
    """(B,) mean distance of the predicted level in steps."""
    levels = np.arange(table.shape[1])
    return share((table * np.abs(levels[:, None] - levels[None])).sum((1, 2)), table.sum((1, 2)))


def auc(found: Predictions, levels: int, weights: np.ndarray) -> np.ndarray:
    """(B,) area under the ROC curve: of the positive level of two, one-versus-rest macro average of more.

    All NaN where the method gives no probabilities.
    """
    if found.probability is None:
        return np.full(len(weights), np.nan)
    each = [area(found.probability[:, level], found.truth == level, weights) for level in range(levels)]
    return _positive_or_macro(np.stack(each, 1))


def area(score: np.ndarray, positive: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(B,) probability that a positive case scores higher than a negative one; ties count half (Mann and Whitney).

    Args:
        score: (n,).
        positive: (n,) bool.
        weights: (B, n).
    """
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.diff(score[order], prepend=-np.inf) != 0)
    of_group = [np.add.reduceat((weights * side)[:, order], starts, axis=1) for side in (positive, ~positive)]
    hits, misses = of_group  # (B, G) each
    below = np.cumsum(misses, axis=1) - misses / 2
    return share((hits * below).sum(1), hits.sum(1) * misses.sum(1))


def _diagonal(table: np.ndarray) -> np.ndarray:
    return np.diagonal(table, axis1=1, axis2=2)


def _positive_or_macro(values: np.ndarray) -> np.ndarray:
    """(B,) from values of each level (B, L)."""
    return values[:, 1] if values.shape[1] == 2 else values.mean(1)
