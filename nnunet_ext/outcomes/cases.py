"""What is predicted of cases, as arrays.

Shapes: n cases, L levels.
"""

from dataclasses import dataclass, field, replace

import numpy as np


@dataclass(frozen=True)
class Predictions:
    """Of one column by one model, with the truth.

    Attributes:
        truth: (n,) index of the level, or the number.
        prediction: (n,) the same.
        probability: (n, L) of each level; None for numbers, or where a method gives none.
        lower, upper: (n,) interval of a number; NaN without one.
        censored: (n,) whether ``truth`` is only a lower bound.
    """

    truth: np.ndarray
    prediction: np.ndarray
    probability: np.ndarray | None = None
    lower: np.ndarray = field(default_factory=lambda: np.empty(0))
    upper: np.ndarray = field(default_factory=lambda: np.empty(0))
    censored: np.ndarray = field(default_factory=lambda: np.empty(0, bool))

    def __post_init__(self) -> None:
        """Fills what is left out."""
        n = len(self.truth)
        for name, missing in (("lower", np.nan), ("upper", np.nan), ("censored", False)):
            if len(getattr(self, name)) != n:
                assert not len(getattr(self, name)), name
                object.__setattr__(self, name, np.full(n, missing))
        assert len(self.prediction) == n
        assert self.probability is None or len(self.probability) == n

    def __len__(self) -> int:
        """Number of cases."""
        return len(self.truth)

    def take(self, cases: np.ndarray) -> "Predictions":
        """The cases of these indices (or this mask), in that order."""
        probability = None if self.probability is None else self.probability[cases]
        arrays = {name: getattr(self, name)[cases] for name in ("truth", "prediction", "lower", "upper", "censored")}
        return replace(self, probability=probability, **arrays)
