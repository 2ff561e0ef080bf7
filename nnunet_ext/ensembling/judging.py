"""What an ensemble gains: by cross-validation on the validation cases, and on test cases where they have references."""

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nnunet_ext.ensembling import RULES, WRITTEN
from nnunet_ext.evaluation.intervals import mean_interval

MEAN = "mean"
PARTS = 5
SIMPLEST = ("average", "single", "inverse_error", "search")
"""Of rules that are equally good the first one wins."""
COLUMNS = (
    *("set", "region", "rule", "Dice", "low", "high"),
    *(f"{what}_{one}" for one in ("single", "average") for what in ("gain_over", "low_over", "high_over")),
    "cases",
)
Groups = list[NDArray[np.intp]]


def parts_of(cases: Sequence[str], folds: Mapping[str, str]) -> Groups:
    """Indices of the cases that are judged together by weights that were chosen on the others.

    The folds of the training, or else up to five parts in turn.

    Raises:
        ValueError: there are fewer than two cases.
    """
    if len(cases) < 2:
        raise ValueError(
            f"{len(cases)} validation case is too few to choose weights and to judge them; at least two are needed."
        )
    names = [folds.get(case, "") for case in cases]
    if len(set(names)) < 2:
        names = [str(index % min(PARTS, len(cases))) for index in range(len(cases))]
    return [np.flatnonzero(np.array(names) == name) for name in sorted(set(names))]


def strata_of(cases: Sequence[str], folds: Mapping[str, str]) -> Groups:
    """Indices of the cases that one training scored, for intervals; one group where the folds are not known."""
    names = np.array([folds.get(case, "") for case in cases])
    return [np.flatnonzero(names == name) for name in sorted(set(names))]


def winner(dice: Mapping[str, NDArray[np.float64]], columns: Sequence[int]) -> str:
    """The rule with the highest mean of Dice (cases, T) in some of its columns, the simplest of equal ones."""
    means = {rule: float(dice[rule][:, list(columns)].mean()) for rule in SIMPLEST}
    return max(SIMPLEST, key=lambda rule: means[rule])


def rows(
    name: str, dice: Mapping[str, NDArray[np.float64]], regions: Sequence[str], strata: Groups
) -> Iterator[dict[str, object]]:
    """Rows of the table: means over cases with intervals, and gains over the best single model and over the average.

    Args:
        name: of the set of cases.
        dice: rule -> (cases, T).
        regions: T names.
        strata: see :func:`strata_of`.
    """
    every = {rule: np.column_stack([found, found.mean(axis=1)]) for rule, found in dice.items()}
    for column, region in enumerate([*regions, MEAN]):
        for rule in (*RULES, WRITTEN):
            values = every[rule][:, column]
            numbers = [*_interval(values, strata)]
            for other in ("single", "average"):
                numbers += _interval(values - every[other][:, column], strata)
            yield dict(zip(COLUMNS, [name, region, rule, *numbers, len(values)], strict=True))


def _interval(values: NDArray[np.float64], strata: Groups) -> list[float | None]:
    found = mean_interval(values[None], strata)
    return [found.mean, found.low, found.high]


def sentences(table: pd.DataFrame, chosen: Mapping[str, str], scored: Mapping[str, Sequence[str]]) -> list[str]:
    """What won on validation and by how much, for people: one sentence for each row of the weights."""
    validation = table[table["set"] == "validation"].to_dict("records")
    rows = {(row["region"], row["rule"]): row for row in validation}
    said = []
    for group, rule in chosen.items():
        region = scored[group][0] if len(scored[group]) == 1 else MEAN
        row = rows[region, rule]
        said.append(
            f"{group}: {rule} is written. By cross-validation on the validation cases it has {row['Dice']:.4f}, "
            f"{_gain(row, 'single')} over the best single model, {_gain(row, 'average')} over plain averaging."
        )
    return said


def _gain(row: Mapping[Hashable, Any], other: str) -> str:
    gain, low, high = (row[f"{what}_over_{other}"] for what in ("gain", "low", "high"))
    if row["rule"] == other:
        return "nothing"
    if math.isnan(low):
        return f"{gain:+.4f} (too few cases for an interval)"
    return f"{gain:+.4f} ({low:+.4f} to {high:+.4f}{', not told from none' if low <= 0 <= high else ''})"
