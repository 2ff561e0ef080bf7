"""Scores of several methods on the same cases: the one form in which all statistics take them.

Shape letters: M methods, S seeds (independent trainings per fold), C cases, F folds.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Scores:
    """One metric of one region.

    Attributes:
        values: (M, S, C), finite. ``values[m, s, c]`` is what method m, trained with its s-th seed without the fold
            of case c, reached on case c.
        folds: (C,), the fold of each case as a number from 0. One training scored all cases of a fold.
        methods: M names.
        higher_is_better: True for Dice, False for distances.
    """

    values: np.ndarray
    folds: np.ndarray
    methods: tuple[str, ...]
    higher_is_better: bool = True

    def __post_init__(self) -> None:
        if self.values.ndim != 3 or self.values.shape[0] != len(self.methods):
            raise ValueError(
                f"Expected scores of shape (methods, seeds, cases) for {len(self.methods)} methods, not "
                f"{self.values.shape}."
            )
        if self.folds.shape != self.values.shape[2:] or not self.folds.size:
            raise ValueError(f"Expected one fold per case, not {self.folds.shape} for {self.values.shape[2]} cases.")
        if not np.isfinite(self.values).all():
            raise ValueError(
                "A score is NaN or infinite; `nnunet_ext evaluate` gives each case a value (a missed tumour has the "
                "convention's worst)."
            )

    @property
    def n_seeds(self) -> int:
        """S."""
        return self.values.shape[1]

    @property
    def cases_of_folds(self) -> list[np.ndarray]:
        """Indices of the cases of each fold."""
        return [np.flatnonzero(self.folds == fold) for fold in np.unique(self.folds)]

    def of(self, method: str) -> np.ndarray:
        """(S, C) of one method."""
        return self.values[self.methods.index(method)]

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Every pair of methods once, in the order of ``methods``."""
        for i, first in enumerate(self.methods):
            yield from ((first, second) for second in self.methods[i + 1 :])

    def better_by(self, first: str, second: str) -> np.ndarray:
        """(S, C), by how much the first method is better than the second; positive where it is."""
        difference = self.of(first) - self.of(second)
        return difference if self.higher_is_better else -difference


def block_means(values: np.ndarray, folds: Sequence[np.ndarray]) -> np.ndarray:
    """(S, F), mean of (S, C) over the cases of each fold: one number per training."""
    return np.stack([values[:, cases].mean(1) for cases in folds], 1)
