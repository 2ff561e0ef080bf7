"""Paired permutation test of two methods: whole trainings are exchanged, with the cases that they scored.

Two trainings of one method on one fold, with different seeds, are exchangeable: if two methods are the same, the sign
of their difference may be turned for each pair of trainings (a seed of a fold), all cases of the fold together. A test
that turns each case by itself takes the cases of one training for independent and claims differences between two seeds
of one method (``docs/statistics.md`` has how often). The statistic is the mean difference over its standard error for
new seeds and new cases (:mod:`.variance`; studentised after Chung and Romano 2013, doi:10.1214/13-AOS1090).

Written here because scipy's ``permutation_test`` turns single observations, not blocks of them.
"""

from collections.abc import Sequence
from itertools import product

import numpy as np

MOST_EXACT = 15  # pairs of trainings of which all 2^15 exchanges are tried
DRAWS = 20_000  # beyond that
CHUNK = 4  # data sets at a time, whose exchanges stay in a core's cache


def _patterns(y: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """Sum and sums of squares over one fold for each pattern of signs (patterns, S).

    Args:
        y: differences (N, S, C_f).
        signs: 1 or -1.

    Returns:
        (4, N, patterns): the sum, then the squares between trainings, between cases and of the rest, quadratic forms.
    """
    n_seeds, n_cases = y.shape[1:]
    gram = np.einsum("nsc,ntc->nst", y, y)
    means = y.mean(2)
    mean = means @ signs.T / n_seeds
    run = n_cases * ((means**2).sum(1, keepdims=True) - n_seeds * mean**2)
    case = np.einsum("ps,nst,pt->np", signs, gram, signs) / n_seeds - n_seeds * n_cases * mean**2
    everything = np.einsum("nss->n", gram)[:, None] - n_seeds * n_cases * mean**2
    return np.stack([n_seeds * n_cases * mean, run, case, everything - run - case])


def _all_exchanges(of_folds: Sequence[np.ndarray]) -> np.ndarray:
    """(4, N, exchanges), every combination of the folds' patterns; the first one changes nothing.

    Turning all signs at once does not change the statistic, so half of the first fold's patterns do.
    """
    first, *others = of_folds
    sums = first[..., : first.shape[2] // 2]
    for further in others:
        sums = (sums[..., None] + further[..., None, :]).reshape(*sums.shape[:2], -1)
    return sums


def _drawn_exchanges(of_folds: Sequence[np.ndarray], seed: int) -> np.ndarray:
    """(4, N, exchanges), as many as ``DRAWS`` and one that changes nothing."""
    drawn = np.random.default_rng(seed).integers(of_folds[0].shape[2], size=(DRAWS, len(of_folds)))
    chosen = np.concatenate([np.zeros((1, len(of_folds)), int), drawn])
    return np.sum([sums[..., chosen[:, f]] for f, sums in enumerate(of_folds)], axis=0)


def p_values(differences: np.ndarray, folds: Sequence[np.ndarray], seed: int = 0) -> np.ndarray:
    """Two-sided p-values that the means of the differences are zero.

    Args:
        differences: (..., S, C), see :meth:`.scores.Scores.better_by`; leading axes are separate tests.
        folds: indices of the cases of each fold.
        seed: of the exchanges drawn where there are too many to try all.

    Raises:
        ValueError: fewer than two seeds, or no fold with two cases.
    """
    n_seeds, n_cases = differences.shape[-2:]
    if n_seeds < 2 or n_cases <= len(folds):
        raise ValueError(
            f"Expected at least two seeds and folds of two cases, not {n_seeds} seeds and {n_cases} cases: with one "
            f"seed a difference between methods cannot be told from one between two trainings."
        )
    flat = differences.reshape(-1, n_seeds, n_cases)
    chunks = [_chunk(flat[i : i + CHUNK], folds, seed) for i in range(0, len(flat), CHUNK)]
    return np.concatenate(chunks).reshape(differences.shape[:-2])


def _chunk(y: np.ndarray, folds: Sequence[np.ndarray], seed: int) -> np.ndarray:
    n_seeds, n_cases = y.shape[1:]
    signs = np.array(list(product((1, -1), repeat=n_seeds)))
    of_folds = [_patterns(y[..., cases], signs) for cases in folds]
    exact = n_seeds * len(folds) <= MOST_EXACT
    total, run, case, rest = _all_exchanges(of_folds) if exact else _drawn_exchanges(of_folds, seed)
    df_case = n_cases - len(folds)
    rest = np.maximum(rest, 0) / ((n_seeds - 1) * df_case)
    uneven = len(folds) * sum((len(cases) / n_cases) ** 2 for cases in folds)
    run = np.maximum(run / (len(folds) * (n_seeds - 1)) - rest, 0) * uneven
    variance = run + np.maximum(case / df_case - rest, 0) + rest
    # the squared statistic, but for a constant; equal differences everywhere have no spread and an infinite one
    with np.errstate(divide="ignore", invalid="ignore"):
        statistic = np.nan_to_num(total**2 / variance, nan=0.0, posinf=np.inf)
    return (statistic >= statistic[:, :1] * (1 - 1e-9)).mean(1)
