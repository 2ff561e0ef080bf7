"""BraTS's ranking: per case, region and metric the methods are ranked, then the ranks are averaged.

Bakas et al. 2018 (arXiv:1811.02629); stability by bootstrap over cases after Maier-Hein et al. 2018
(doi:10.1038/s41467-018-07619-7).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from nnunet_ext.evaluation.scores import Scores

DRAWS = 1000


@dataclass(frozen=True)
class Ranking:
    """Ranks from 1, the best.

    Attributes:
        methods: M names.
        mean_ranks: (M,), over cases, regions and metrics.
        of_draws: (draws, M), the rank of each method's mean rank in each bootstrap sample of the cases.
    """

    methods: tuple[str, ...]
    mean_ranks: np.ndarray
    of_draws: np.ndarray

    def interval(self) -> np.ndarray:
        """(M, 2), 2.5 and 97.5 percentiles of the rank."""
        return np.quantile(self.of_draws, [0.025, 0.975], axis=0).T

    def first(self) -> np.ndarray:
        """(M,), share of the bootstrap samples in which the method is first, shared places counted as a share."""
        best = self.of_draws == self.of_draws.min(1, keepdims=True)
        return (best / best.sum(1, keepdims=True)).mean(0)


def case_ranks(scores: Scores) -> np.ndarray:
    """(M, C), rank of each method on each case by its mean over seeds; ties share the mean of their places."""
    means = scores.values.mean(1)
    return rankdata(-means if scores.higher_is_better else means, axis=0)


def rank(parts: Mapping[str, Scores], seed: int = 0) -> Ranking:
    """Rank over several metrics and regions of the same methods and cases.

    Raises:
        ValueError: the parts have other methods or another number of cases.
    """
    shapes = {(part.methods, part.values.shape[2]) for part in parts.values()}
    if len(shapes) != 1:
        raise ValueError(f"A ranking takes parts of the same methods and cases, not {len(shapes)} kinds of them.")
    ((methods, n_cases),) = shapes
    ranks = np.mean([case_ranks(part) for part in parts.values()], 0)
    drawn = np.random.default_rng(seed).integers(n_cases, size=(DRAWS, n_cases))
    return Ranking(methods, ranks.mean(1), rankdata(ranks[:, drawn].mean(2), axis=0).T)
