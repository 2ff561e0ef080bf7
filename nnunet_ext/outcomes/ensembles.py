"""Ensembles of the best methods, chosen and weighted on validation predictions that the reported cases have no part in.

In cross-validation the choice and the weights of a fold come from the other folds' validation predictions; for an
external test from those of all folds. The best are chosen by the column's rule (:mod:`.selection`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from nnunet_ext.outcomes import combining
from nnunet_ext.outcomes.bootstrapping import mean_of_folds
from nnunet_ext.outcomes.cases import Predictions
from nnunet_ext.outcomes.columns import Column
from nnunet_ext.outcomes.honest import Fold
from nnunet_ext.outcomes.metrics import measured
from nnunet_ext.outcomes.selection import Chosen, best


class NobodyError(ValueError):
    """No method passes the rule of a column, so none can be chosen."""


@dataclass(frozen=True)
class Weights:
    """Of the ensemble of one fold: method -> weight, and the methods that could not be chosen with the reason."""

    fold: str
    weights: Mapping[str, float]
    refused: Mapping[str, str]


class Maker(Protocol):
    """Makes a further method of the others, by predictions of other cases than those it is reported on."""

    @property
    def name(self) -> str:
        """Among the methods."""
        ...

    def fitted(self, column: Column, folds: Sequence[Fold], methods: Sequence[str], of: str) -> Weights:
        """Choice and weights by the validation predictions of some folds, for the fold ``of``.

        Raises:
            NobodyError: no method passes the rule on them.
        """
        ...


@dataclass(frozen=True)
class Recipe:
    """How an ensemble is made: of the best ``k``, weighted as ``combining.METHODS`` names."""

    k: int
    how: str

    @property
    def name(self) -> str:
        """See :class:`Maker`."""
        return f"ensemble of the best {self.k} ({self.how})"

    def fitted(self, column: Column, folds: Sequence[Fold], methods: Sequence[str], of: str) -> Weights:
        """See :class:`Maker`."""
        chosen = best_of(column, folds, methods, self.k, f"the ensemble of fold {of}")
        weights = weighed(column, folds, chosen.names, self.how)
        return Weights(of, dict(zip(chosen.names, weights.tolist(), strict=True)), chosen.refused)


@dataclass(frozen=True)
class Choice:
    """The best method alone: nested cross-validation of the choice between trained networks (see :mod:`.nested`)."""

    @property
    def name(self) -> str:
        """See :class:`Maker`."""
        return "chosen on other folds"

    def fitted(self, column: Column, folds: Sequence[Fold], methods: Sequence[str], of: str) -> Weights:
        """See :class:`Maker`."""
        chosen = best_of(column, folds, methods, 1, f"what is chosen for fold {of}")
        return Weights(of, {chosen.names[0]: 1.0}, chosen.refused)


def means(column: Column, folds: Sequence[Fold], methods: Sequence[str]) -> dict[str, dict[str, float]]:
    """Method -> metric -> mean over seeds, then over the folds in which it is defined."""
    found = {}
    for method in methods:
        values = [[_values(column, seed) for seed in fold.methods[method]] for fold in folds]
        names = list(values[0][0])
        table = np.array([[list(seed.values()) for seed in fold] for fold in values]).mean(1)
        found[method] = dict(zip(names, mean_of_folds(table).tolist(), strict=True))
    return found


def ranking(column: Column, folds: Sequence[Fold], methods: Sequence[str]) -> Chosen:
    """All methods by the column's rule."""
    return best(column, means(column, folds, methods), max(len(methods), 1))


def best_of(column: Column, folds: Sequence[Fold], methods: Sequence[str], k: int, what: str) -> Chosen:
    """The best ``k`` methods by some folds.

    Raises:
        NobodyError: none passes the rule; ``what`` it was for is told.
    """
    chosen = best(column, means(column, folds, methods), k)
    if not chosen.names:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in chosen.refused.items())
        raise NobodyError(f"No method of {column.name} may enter {what} ({reasons}).")
    return chosen


def weighed(column: Column, folds: Sequence[Fold], names: Sequence[str], how: str) -> np.ndarray:
    """(M,) weights of methods by the validation predictions of some folds."""
    seeds = min(len(fold.methods[name]) for fold in folds for name in names)
    models = [_joined([fold.methods[name][s] for s in range(seeds) for fold in folds]) for name in names]
    return combining.METHODS[how](column, models)


def out_of_fold(
    column: Column, folds: Sequence[Fold], methods: Sequence[str], recipe: Maker
) -> tuple[list[Fold], list[Weights]]:
    """The folds with the ensemble among their methods, and its weights in each.

    Raises:
        ValueError: there is a single fold.
        NobodyError: no method passes the rule in some folds.
    """
    if len(folds) < 2:
        raise ValueError("An ensemble is weighted on other folds than it is tested on; name two folds or more.")
    made, told = [], []
    for fold in folds:
        others = [other for other in folds if other is not fold]
        found = recipe.fitted(column, others, methods, fold.name)
        made.append(applied(column, fold, found, recipe.name))
        told.append(found)
    return made, told


def applied(column: Column, fold: Fold, found: Weights, name: str) -> Fold:
    """A fold with the ensemble among its methods by this name, one for each seed; a method alone is taken as it is."""
    members, weights = [fold.methods[name] for name in found.weights], np.array(list(found.weights.values()))
    seeds = range(min(map(len, members)))
    if len(members) == 1:
        runs = tuple(members[0][seed] for seed in seeds)
    else:
        runs = tuple(combining.combined(column, [member[seed] for member in members], weights) for seed in seeds)
    return replace(fold, methods={**fold.methods, name: runs})


def _values(column: Column, found: Predictions) -> dict[str, float]:
    return {name: value for name, (value, _) in measured(column, found).items()}


def _joined(parts: Sequence[Predictions]) -> Predictions:
    names = ("truth", "prediction", "lower", "upper", "censored")
    arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    given = [part.probability for part in parts if part.probability is not None]
    return Predictions(probability=np.concatenate(given) if len(given) == len(parts) else None, **arrays)
