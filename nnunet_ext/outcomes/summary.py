"""What a table of targets holds, as lines for people."""

from collections.abc import Iterator, Sequence

import numpy as np

from nnunet_ext.outcomes.columns import SURVIVAL, Column, Covariate
from nnunet_ext.outcomes.folds import Split
from nnunet_ext.outcomes.targets import Targets

SHOWN = 3  # cases that are named
FEW = 100
"""Cases, below which the interval of an accuracy is wider than 20 points and is told."""
HEADER = ("column", "kind", "known", "missing", "values")


def columns_table(targets: Targets) -> list[tuple[str, ...]]:
    """Header and a row for each target and covariate: kind, known and missing cells, and what the cells hold."""
    return [
        HEADER,
        *(_row(targets, column.name, column.kind, _values(targets, column)) for column in targets.columns.values()),
        *(
            _row(targets, covariate.name, f"covariate ({covariate.coding})", _cells(targets, covariate))
            for covariate in targets.covariates.values()
        ),
    ]


def _row(targets: Targets, name: str, kind: str, values: str) -> tuple[str, ...]:
    known = sum(bool(row[name]) for row in targets.rows.values())
    return name, kind, str(known), str(len(targets.rows) - known), values


def _values(targets: Targets, column: Column) -> str:
    known = targets.known(column.name)
    values = targets.values(column.name, known)
    if column.is_discrete:
        return _counts([column.levels[int(value)] for value in values], column.levels)
    censored = sum(not targets.observed(column.name, case) for case in known)
    told = f", {censored} censored" if column.kind == SURVIVAL else ""
    unit = f" ({column.unit})" if column.unit else ""
    return f"{_range(values.tolist())}{unit}{told}" if len(values) else "none"


def _cells(targets: Targets, covariate: Covariate) -> str:
    cells = [text for row in targets.rows.values() if (text := row[covariate.name])]
    if covariate.levels:
        return _counts(cells, covariate.levels)
    return _range([float(cell) for cell in cells]) if cells else "none"


def _counts(cells: Sequence[str], levels: Sequence[str]) -> str:
    return ", ".join(f"{level} {cells.count(level)}" for level in levels)


def _range(values: Sequence[float]) -> str:
    return f"{min(values):g} to {max(values):g}, median {np.median(values):g}"


def folds_table(targets: Targets, splits: Sequence[Split]) -> list[tuple[str, ...]]:
    """Header and a row for each fold: cases and patients to train and to validate with, levels of those validated."""
    column = targets.schema.column(targets.schema.stratify)
    rows: list[tuple[str, ...]] = [("fold", "train", "val", "patients", f"val by {column.name}")]
    for fold, split in enumerate(splits):
        patients = len({targets.groups[case] for case in split["val"]})
        known = targets.known(column.name, split["val"])
        values = targets.values(column.name, known)
        shown = (
            _counts([column.levels[int(value)] for value in values], column.levels)
            if column.is_discrete
            else (_range(values.tolist()) if len(values) else "none")
        )
        rows.append((str(fold), str(len(split["train"])), str(len(split["val"])), str(patients), shown))
    return rows


def what_is_not_used(targets: Targets, splits: Sequence[Split]) -> Iterator[str]:
    """Cases that are in no fold, and covariates that a training cannot read."""
    in_folds = {case for split in splits for part in split.values() for case in part}
    if apart := [case for case in targets.training_cases if case not in in_folds]:
        yield f"Note: {_some(apart)} in no fold, so never used; --new-splits divides all cases."
    for covariate in targets.covariates.values():
        empty = [case for case, row in targets.rows.items() if not row[covariate.name]]
        if empty and covariate.missing == "refuse":
            yield (
                f"Note: {covariate.name} is empty for {_some(empty, '')}, which trainings with Covariates refuse; fill "
                'the cells, or declare "missing": "mean" or "indicator".'
            )


def _some(cases: Sequence[str], verb: str = " are") -> str:
    named = f"{', '.join(cases[:SHOWN])}{'' if len(cases) <= SHOWN else ' ...'}"
    return f"{len(cases)} cases ({named}){verb}"


def what_few_cases_show(targets: Targets) -> Iterator[str]:
    """For each target that is known of few cases, how wide the interval of a result on all of them is."""
    from scipy.stats import binomtest

    for name, column in targets.columns.items():
        number = len(targets.known(name, targets.training_cases))
        if not 0 < number < FEW:
            continue
        interval = binomtest(number // 2, number).proportion_ci(method="wilson")
        what = "an accuracy" if column.is_discrete else "a share of right predictions"
        yield (
            f"{name}: {number} cases{' prove nothing' if number <= 10 else ' are few'}; the 95 % interval of {what} of "
            f"{number // 2} in {number} is {interval.low:.2f} to {interval.high:.2f} (Wilson)."
        )
