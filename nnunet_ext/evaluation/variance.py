"""Where the spread of scores comes from: training again (seed), the fold, the case.

The scores of one method, or differences of two, are y[s, c] = mean + fold[f(c)] + case[c] + run[s, f(c)] + rest[s, c]:
within a fold every case is scored by every seed's training, so that seeds and cases are crossed, and all cases of a
fold share their training. The components follow from the mean squares of that layout in closed form (Searle, Casella
and McCulloch 1992, Variance Components, chapter 4; doi:10.1002/9780470316856), pooled over the folds. A likelihood
method would agree for balanced data, but statsmodels' MixedLM silently gives zeros at the boundary of the parameters
(statsmodels #10239), and that is where a light spread between seeds lies.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class MeanSquares:
    """Mean squares pooled over the folds, with their degrees of freedom; arrays where the values had a leading axis."""

    run: np.ndarray
    case: np.ndarray
    rest: np.ndarray
    df_run: int
    df_case: int
    df_rest: int
    n_seeds: int
    n_cases: int
    unevenness: float  # number of folds times the sum of their squared shares of the cases; 1 for folds of one size

    def variance_of_mean(self) -> np.ndarray:
        """Of the mean over all seeds and cases, for new seeds and new cases; a component below zero counts as zero."""
        run = np.maximum(self.run - self.rest, 0) * self.unevenness
        case = np.maximum(self.case - self.rest, 0)
        return (run + case + self.rest) / (self.n_seeds * self.n_cases)

    def degrees_of_freedom(self) -> np.ndarray:
        """Satterthwaite's, of :meth:`variance_of_mean`: close to those of the part that dominates it."""
        run, case = (part > self.rest for part in (self.run, self.case))
        # the rest counts once where no other part does, not at all beside one, and is taken off beside both
        factors = np.stack([run * self.unevenness, case * 1.0, 1.0 - run * self.unevenness - case])
        parts = np.stack([self.run, self.case, self.rest])
        dfs = np.array([self.df_run, self.df_case, self.df_rest], float).reshape(-1, *(1,) * parts[0].ndim)
        spread = ((factors * parts) ** 2 / dfs).sum(0)
        total = (self.variance_of_mean() * self.n_seeds * self.n_cases) ** 2
        # without any spread they do not matter
        return np.divide(total, spread, out=np.full_like(total, min(self.df_run, self.df_case)), where=spread > 0)


def mean_squares(values: np.ndarray, folds: Sequence[np.ndarray]) -> MeanSquares:
    """Mean squares of (..., S, C).

    Args:
        values: scores or differences; leading axes are independent data sets.
        folds: indices of the cases of each fold.

    Raises:
        ValueError: fewer than two seeds, or no fold with two cases: then nothing tells training from cases.
    """
    n_seeds, n_cases = values.shape[-2:]
    if n_seeds < 2 or n_cases <= len(folds):
        raise ValueError(
            f"Expected at least two seeds and folds of two cases, not {n_seeds} seeds and {n_cases} cases in "
            f"{len(folds)} folds; train with further seeds (`..._seed2`)."
        )
    run = case = total = np.zeros(values.shape[:-2])
    for cases in folds:
        y = values[..., cases]
        centred = y - y.mean((-2, -1), keepdims=True)
        run = run + len(cases) * (centred.mean(-1) ** 2).sum(-1)
        case = case + n_seeds * (centred.mean(-2) ** 2).sum(-1)
        total = total + (centred**2).sum((-2, -1))
    df_run, df_case = len(folds) * (n_seeds - 1), n_cases - len(folds)
    df_rest = (n_seeds - 1) * df_case
    shares = np.array([len(cases) for cases in folds]) / n_cases
    return MeanSquares(
        run=run / df_run,
        case=case / df_case,
        rest=np.maximum(total - run - case, 0) / df_rest,
        df_run=df_run,
        df_case=df_case,
        df_rest=df_rest,
        n_seeds=n_seeds,
        n_cases=n_cases,
        unevenness=float(len(folds) * (shares**2).sum()),
    )


@dataclass(frozen=True)
class Components:
    """Standard deviations, in the unit of the score; None where the data cannot tell.

    Attributes:
        seed: of a fold's mean when the network is trained again with another seed.
        fold: of a fold's mean beyond what its seeds and cases explain.
        case: of a case's score, the training held fixed.
        rest: what is left: a case that one training happens to get right and another does not.
    """

    seed: float | None
    fold: float | None
    case: float
    rest: float | None


def components(values: np.ndarray, folds: Sequence[np.ndarray]) -> Components:
    """The split of one method's scores (S, C); negative estimates are zero.

    With one seed neither seed nor rest can be told from case; with one fold there is no fold to compare.
    """
    if values.shape[0] < 2:
        within = [values[0, cases].var(ddof=1) * (len(cases) - 1) for cases in folds if len(cases) > 1]
        df = values.shape[1] - len(folds)
        return Components(None, None, float(np.sqrt(sum(within) / df)) if df else 0.0, None)
    squares = mean_squares(values, folds)
    sizes = np.array([len(cases) for cases in folds])
    seed = max(float(squares.run - squares.rest), 0) * len(folds) / squares.n_cases
    case = max(float(squares.case - squares.rest), 0) / squares.n_seeds
    rest = float(squares.rest)
    fold = None
    if len(folds) > 1:
        means = np.array([values[:, cases].mean() for cases in folds])
        explained = seed / squares.n_seeds + ((case + rest / squares.n_seeds) / sizes).mean()
        fold = float(np.sqrt(max(means.var(ddof=1) - explained, 0)))
    return Components(float(np.sqrt(seed)), fold, float(np.sqrt(case)), float(np.sqrt(rest)))
