"""The threshold of enhancing tumour: predictions with fewer voxels than it have none.

Isensee 2018 (arXiv:1809.10483) chose it on the training cases' cross-validated predictions. Chosen on the cases that it
is judged on it flatters, so :func:`check` refuses any case that is on both sides.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np

from nnunet_ext.evaluation import reading
from nnunet_ext.evaluation.cases import Pair, Settings, load
from nnunet_ext.evaluation.regions import ET

CANDIDATES = (0, *range(10, 100, 10), *range(100, 1001, 50))
"""Voxels; 0 changes nothing."""


@dataclass(frozen=True)
class Enhancing:
    """Voxels of enhancing tumour of a case: in both, in the reference, in the prediction."""

    common: int
    reference: int
    prediction: int

    def dice(self, threshold: int) -> float:
        """Dice with the threshold; 1 where neither has a voxel."""
        if self.prediction < threshold:
            return float(self.reference == 0)
        total = self.reference + self.prediction
        return 2 * self.common / total if total else 1.0


def check(training: Iterable[str], judged: Iterable[str]) -> None:
    """Refuses (ValueError) a case that is on both sides."""
    both = sorted(set(training) & set(judged))
    if both:
        raise ValueError(
            f"{both[0]} ({len(both)} cases) is evaluated and among those on which --et-threshold would be chosen;"
            " choose it on other folds."
        )


def count(pairs: Sequence[Pair], settings: Settings) -> Iterator[Enhancing]:
    """Counts the enhancing tumour of cases.

    Raises:
        ValueError: a case cannot be compared; a threshold chosen without it would be another one.
    """
    for pair in pairs:
        try:
            volumes = load(pair, replace(settings, et_threshold=0))
        except reading.UnreadableError as reason:
            raise ValueError(f"--et-threshold cannot be chosen: {reason}") from reason
        true, given = volumes.reference == ET, volumes.prediction == ET
        yield Enhancing(*(int(np.count_nonzero(mask)) for mask in (true & given, true, given)))


def best(cases: Sequence[Enhancing], candidates: Sequence[int] = CANDIDATES) -> tuple[int, dict[int, float]]:
    """The threshold with the highest mean Dice, the smallest of equal ones, and the mean of every candidate."""
    means = {threshold: fmean(case.dice(threshold) for case in cases) for threshold in candidates}
    highest = max(means.values())
    return min(threshold for threshold, mean in means.items() if mean == highest), means
