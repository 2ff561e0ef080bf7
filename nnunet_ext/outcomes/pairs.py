"""The k best methods of one group combined with the k best of another, such as two inputs or two families of encoders.

Each pair is an ensemble whose weights come from other folds than it is measured on. The pairs are ranked by the
column's rule, and the first one is what an external test gets. That it is the best of many flatters its own value;
among the methods stands therefore the pair that each fold would get from the others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import numpy as np
import pandas as pd

from nnunet_ext.evaluation.runs import PREFIX
from nnunet_ext.outcomes import ensembles
from nnunet_ext.outcomes.columns import Column
from nnunet_ext.outcomes.ensembles import NobodyError, Weights
from nnunet_ext.outcomes.honest import Fold
from nnunet_ext.outcomes.selection import Chosen, best, rule_for

Pair = tuple[str, str]


@dataclass(frozen=True)
class Pairs:
    """How pairs are made.

    Attributes:
        groups: the methods of each of the two.
        k: so many of each group at most.
        how: weights are found, see ``combining.METHODS``.
    """

    groups: tuple[tuple[str, ...], tuple[str, ...]]
    k: int
    how: str

    @property
    def name(self) -> str:
        """See :class:`.ensembles.Maker`."""
        return f"best pair of {self.k} x {self.k} ({self.how})"

    def fitted(self, column: Column, folds: Sequence[Fold], methods: Sequence[str], of: str) -> Weights:
        """See :class:`.ensembles.Maker`; the methods are those of the groups."""
        found = judged(self, column, folds)
        chosen = found.chosen()
        if chosen is None:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in found.order.refused.items())
            raise NobodyError(f"No pair of {column.name} may be chosen for fold {of} ({reasons}).")
        weights = ensembles.weighed(column, folds, chosen, self.how)
        return Weights(of, dict(zip(chosen, weights.tolist(), strict=True)), found.order.refused)


def groups_of(patterns: Sequence[str], methods: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The methods that each of two patterns means, with or without nnU-Net's prefix.

    Raises:
        ValueError: a pattern means none.
    """
    found = [tuple(m for m in methods if fnmatchcase(m, pattern.removeprefix(f"{PREFIX}_"))) for pattern in patterns]
    for pattern, group in zip(patterns, found, strict=True):
        if not group:
            raise ValueError(f"--combine {pattern} means none of the methods {', '.join(methods)}.")
    return found[0], found[1]


@dataclass(frozen=True)
class Judged:
    """Pairs on some folds.

    Attributes:
        pairs: label -> methods.
        values: label -> metric -> mean over the folds, each with the weights of the other folds.
        order: labels by the rule, the best first, and those that it refuses.
    """

    pairs: Mapping[str, Pair]
    values: Mapping[str, Mapping[str, float]]
    order: Chosen = field(default_factory=lambda: Chosen((), {}))

    def chosen(self) -> Pair | None:
        """The best pair; None where the rule refuses all."""
        return self.pairs[self.order.names[0]] if self.order.names else None


def judged(pairs: Pairs, column: Column, folds: Sequence[Fold]) -> Judged:
    """Makes, weighs and ranks the pairs of the k best of each group on some folds.

    Raises:
        NobodyError: no method of a group passes the rule.
    """
    members = [ensembles.best_of(column, folds, group, pairs.k, "a pair").names for group in pairs.groups]
    unordered = {frozenset((a, b)): (a, b) for a in members[0] for b in members[1] if a != b}
    if not unordered:
        raise NobodyError(f"Both groups of --combine have {members[0][0]} alone as the best of {column.name}.")
    labels = {f"{a} + {b}": (a, b) for a, b in unordered.values()}
    values = {label: _values(column, folds, pair, pairs.how) for label, pair in labels.items()}
    return Judged(labels, values, best(column, values, len(labels)))


def _values(column: Column, folds: Sequence[Fold], pair: Pair, how: str) -> dict[str, float]:
    """Metrics of a pair; with a single fold the weights are of the same cases."""
    made = []
    for fold in folds:
        others = [other for other in folds if other is not fold] or [fold]
        weights = ensembles.weighed(column, others, pair, how)
        made.append(ensembles.applied(column, fold, _weights(fold, pair, weights), "pair"))
    return ensembles.means(column, made, ["pair"])["pair"]


def _weights(fold: Fold, pair: Pair, weights: np.ndarray) -> Weights:
    return Weights(fold.name, dict(zip(pair, weights.tolist(), strict=True)), {})


def table(pairs: Pairs, column: Column, folds: Sequence[Fold]) -> pd.DataFrame:
    """One row a pair, the best first: column, first, second, rank, their weights by all folds, the rule's metrics."""
    found = judged(pairs, column, folds)
    rule = rule_for(column)
    rows = []
    for label in (*found.order.names, *found.order.refused):
        first, second = found.pairs[label]
        weights = ensembles.weighed(column, folds, (first, second), pairs.how)
        rank = found.order.names.index(label) + 1 if label in found.order.names else None
        words = {"column": column.name, "first": first, "second": second, "rank": rank}
        words |= {"weight_first": weights[0], "weight_second": weights[1]}
        metrics = {name: found.values[label][name] for name in dict.fromkeys((rule.metric, *rule.order))}
        rows.append({**words, **metrics, "note": found.order.refused.get(label, "")})
    return pd.DataFrame(rows).astype({"rank": "Int64"})
