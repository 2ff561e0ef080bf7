"""Which of several checkpoints or models are the best, by a stated rule that leaves nothing to chance.

A rule is a row of a table: what a candidate must exceed to be chosen at all, and the metrics by which the others are
ordered, one after the other where those before are equal to ``PLACES`` decimals; in the end the name decides.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf, isnan

from nnunet_ext.outcomes.columns import CLASS, ORDINAL, REGRESSION, SURVIVAL, Column
from nnunet_ext.outcomes.metrics import metric_named

PLACES = 6


@dataclass(frozen=True)
class Rule:
    """How candidates are chosen.

    Attributes:
        metric, above: a candidate whose value is not above this is not chosen.
        order: metrics by which the others are ordered, the most important first.
    """

    metric: str
    above: float
    order: tuple[str, ...]

    def __str__(self) -> str:
        """As told to the user."""
        first, *ties = self.order
        return f"{self.metric} > {self.above:g}, then {first}" + (f"; ties by {', '.join(ties)}" if ties else "")


@dataclass(frozen=True)
class Chosen:
    """The best, the best first, and why others cannot be chosen; ``names`` is shorter than asked where too few can."""

    names: tuple[str, ...]
    refused: Mapping[str, str]


def rule_for(column: Column) -> Rule:
    """The rule of a column's kind.

    Numbers: R2 > 0, then MAE, ties by the accuracy within 1.0 and 0.5 (where these are not among the declared bands:
    within each band, the widest first), then R2.
    """
    if column.kind == REGRESSION:
        bands = [band for band in (1.0, 0.5) if band in column.bands] or sorted(column.bands, reverse=True)
        return Rule("r2", 0, ("mae", *(f"within_{band:g}" for band in bands), "r2"))
    return {
        CLASS: Rule("auc", 0.5, ("auc", "balanced_accuracy", "accuracy")),
        ORDINAL: Rule("quadratic_kappa", 0, ("quadratic_kappa", "class_mae", "accuracy")),
        SURVIVAL: Rule("c_index", 0.5, ("c_index", "mae")),
    }[column.kind]


def best(column: Column, candidates: Mapping[str, Mapping[str, float]], k: int = 1) -> Chosen:
    """The best ``k`` by the column's rule.

    Args:
        column: to be predicted.
        candidates: name -> metric -> value, all of the same cases.
        k: how many, at least 1.

    Raises:
        ValueError: ``k`` is below 1, or a candidate lacks a metric of the rule.
    """
    if k < 1:
        raise ValueError(f"The best {k} were asked for; ask for 1 or more.")
    rule = rule_for(column)
    for name, values in candidates.items():
        if missing := [metric for metric in (rule.metric, *rule.order) if metric not in values]:
            raise ValueError(f"{name} has no {missing[0]} of {column.name}, which the rule ({rule}) needs.")
    refused = {
        name: f"{rule.metric} is {values[rule.metric]:.3g}, not above {rule.above:g}"
        for name, values in candidates.items()
        if not values[rule.metric] > rule.above  # NaN is not above
    }
    order = sorted(set(candidates) - set(refused), key=lambda name: _key(column, rule, name, candidates[name]))
    return Chosen(tuple(order[:k]), refused)


def _key(column: Column, rule: Rule, name: str, values: Mapping[str, float]) -> tuple[float | str, ...]:
    """Sorts the better first."""
    return (*(_cost(column, metric, values[metric]) for metric in rule.order), name)


def _cost(column: Column, metric: str, value: float) -> float:
    if isnan(value):
        return inf  # what is undefined is behind all that is not
    return round(-value if metric_named(column, metric).higher else value, PLACES)
