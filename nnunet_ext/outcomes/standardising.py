"""Covariates as numbers that a network can read, by what the training cases of a fold are and nothing else."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan, nan
from typing import Any

import numpy as np

from nnunet_ext.outcomes.columns import Covariate
from nnunet_ext.outcomes.tables import number_in


@dataclass(frozen=True)
class Standardisation:
    """How the covariates of a fold become features.

    Attributes:
        covariates: in the order of the features.
        means: of the training cases' raw features, NaN left out.
        scales: their standard deviations (of the population, as scikit-learn's StandardScaler has it; 1 where they are
            all alike), used where the coding is ``z``.
    """

    covariates: tuple[Covariate, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the features; their number is what a head's input grows by."""
        return tuple(name for covariate in self.covariates for name in covariate.features)

    def of(self, row: Mapping[str, str]) -> tuple[float, ...]:
        """The features of a row of the table, whether it is one of the training cases or not.

        Raises:
            ValueError: a cell is missing whose covariate refuses that, or holds what is not declared.
        """
        features: list[float] = []
        place = 0
        for covariate in self.covariates:
            raw = raw_features(covariate, row)
            known = slice(place, place + len(raw))
            features += _scaled(covariate, raw, self.means[known], self.scales[known])
            place += len(raw)
        return tuple(features)

    def as_dict(self) -> dict[str, Any]:
        """For a checkpoint; :meth:`from_dict` reads it back."""
        covariates = [{**vars(c), "levels": list(c.levels)} for c in self.covariates]
        return {"covariates": covariates, "means": list(self.means), "scales": list(self.scales)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "Standardisation":
        """What :meth:`as_dict` stored."""
        covariates = tuple(Covariate(**{**c, "levels": tuple(c["levels"])}) for c in stored["covariates"])
        return cls(covariates, tuple(stored["means"]), tuple(stored["scales"]))


def fit(covariates: Iterable[Covariate], rows: Sequence[Mapping[str, str]]) -> Standardisation:
    """The standardisation that the rows of the training cases give.

    Raises:
        ValueError: a covariate is known of none of them, or a cell holds what is not declared.
    """
    covariates = tuple(covariates)
    means: list[float] = []
    scales: list[float] = []
    for covariate in covariates:
        table = np.array([raw_features(covariate, row) for row in rows], dtype=float)
        known = table[~np.isnan(table).any(axis=1)] if len(table) else table
        if not len(known):
            raise ValueError(
                f"The covariate {covariate.name} is known of no training case; leave it out of the schema."
            )
        deviations = known.std(axis=0)
        means += known.mean(axis=0).tolist()
        scales += np.where(deviations > 0, deviations, 1.0).tolist()
    return Standardisation(covariates, tuple(means), tuple(scales))


def raw_features(covariate: Covariate, row: Mapping[str, str]) -> list[float]:
    """The features of a cell before scaling; all NaN where it is empty.

    Raises:
        ValueError: the table has no such column, or the cell holds no number or no declared level.
    """
    if covariate.name not in row:
        raise ValueError(f"The table has no column {covariate.name}, which is a covariate; add it.")
    text, levels = row[covariate.name], covariate.levels
    one_hot = covariate.coding == "one-hot"
    if not text:
        return [nan] * (len(levels) if one_hot else 1)
    if not levels:
        return [number_in(text)]
    if text not in levels:
        raise ValueError(f"{text!r} is no level of {covariate.name}, which has {', '.join(levels)}")
    return [float(text == level) for level in levels] if one_hot else [float(levels.index(text))]


def check_covariates(covariates: Iterable[Covariate], row: Mapping[str, str], case: str) -> None:
    """Refuses a row with an empty cell whose covariate declares nothing for that, by a ValueError with the case."""
    for covariate in covariates:
        if covariate.missing == "refuse" and isnan(raw_features(covariate, row)[0]):
            raise ValueError(f"The case {case}: {_missing(covariate)}")


def _missing(covariate: Covariate) -> str:
    return f'The covariate {covariate.name} is missing; fill the cell, or declare "missing": "mean" or "indicator".'


def _scaled(covariate: Covariate, raw: list[float], means: Sequence[float], scales: Sequence[float]) -> list[float]:
    missing = isnan(raw[0])
    if missing and covariate.missing == "refuse":
        raise ValueError(_missing(covariate))
    filled = means if missing else raw
    scaled = (
        [(x - mean) / scale for x, mean, scale in zip(filled, means, scales, strict=True)]
        if covariate.coding == "z"
        else list(filled)
    )
    return [*scaled, float(missing)] if covariate.missing == "indicator" else scaled
