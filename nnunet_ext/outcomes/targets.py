"""The targets of a dataset: its table read by its schema, every cell checked before anything uses one."""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import nan
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nnunet_ext.outcomes import standardising
from nnunet_ext.outcomes.columns import SCHEMA_FILE, SET, SURVIVAL, TABLE_FILE, Column, Covariate, Schema, load_schema
from nnunet_ext.outcomes.standardising import Standardisation
from nnunet_ext.outcomes.tables import TEST, Row, number_in, read_table

CENSORING = {"0": False, "1": True}


@dataclass(frozen=True)
class Targets:
    """What is known of each case.

    Attributes:
        schema: what the columns mean.
        rows: case -> column -> text of the cell, empty where it is not known.
    """

    schema: Schema
    rows: dict[str, Row]

    @property
    def columns(self) -> dict[str, Column]:
        """The targets by name."""
        return self.schema.columns

    @property
    def covariates(self) -> dict[str, Covariate]:
        """What is known beside the images, by name."""
        return self.schema.covariates

    @property
    def training_cases(self) -> tuple[str, ...]:
        """The cases of the table that are not kept for testing."""
        return tuple(case for case, row in self.rows.items() if row.get(SET) != TEST)

    @property
    def test_cases(self) -> tuple[str, ...]:
        """The cases whose ``set`` is ``test``: nothing may be fitted, chosen or tuned on them."""
        return tuple(case for case, row in self.rows.items() if row.get(SET) == TEST)

    @cached_property
    def groups(self) -> dict[str, str]:
        """Case -> the first case of its patient; a case alone where the schema names no group."""
        return group_cases(self.rows, self.schema.groups)

    def row(self, case: str) -> Row:
        """The row of a case; ValueError where there is none."""
        if case not in self.rows:
            raise ValueError(f"{TABLE_FILE} has no row of the case {case}; add one.")
        return self.rows[case]

    def encoded(self, column: str, case: str) -> float:
        """A target as a number: the index of a level, or the value (of a survival the time, censored or not).

        NaN where the cell is empty.
        """
        return encoded(self.schema.column(column), self.row(case))

    def observed(self, column: str, case: str) -> bool:
        """Whether the value is known, and of a survival whether the event has been seen (false: censored)."""
        return observed(self.schema.column(column), self.row(case))

    def known(self, column: str, cases: Iterable[str] | None = None) -> tuple[str, ...]:
        """Those of the cases (default: all) of which the target has a value; a censored time is one."""
        name = self.schema.column(column).name
        return tuple(case for case in (self.rows if cases is None else cases) if self.row(case)[name])

    def values(self, column: str, cases: Iterable[str]) -> NDArray[np.float64]:
        """:meth:`encoded` of several cases, (N,)."""
        return np.array([self.encoded(column, case) for case in cases], dtype=np.float64)

    def standardised(self, training_cases: Sequence[str]) -> Standardisation:
        """How covariates become features by the training cases of a fold, and by no other case."""
        return standardising.fit(self.covariates.values(), [self.row(case) for case in training_cases])

    def scale(self, column: str, training_cases: Iterable[str]) -> tuple[float, float]:
        """Mean and standard deviation (population; 1 where all are alike) of a number, over the training cases.

        Raises:
            ValueError: none of them has a value.
        """
        known = self.values(column, self.known(column, training_cases))
        if not len(known):
            raise ValueError(f"No training case has a value of {column}; train with another target.")
        return float(known.mean()), float(known.std()) or 1.0


def load_targets(folder: Path | str) -> Targets:
    """Read ``targets.json`` and ``targets.csv`` of a dataset's folder (raw or preprocessed).

    Raises:
        ValueError: a file is missing or not what it should be; the sentence names the first cell that is wrong and how
            many others are.
    """
    schema = load_schema(Path(folder, SCHEMA_FILE))
    path = Path(folder, TABLE_FILE)
    return checked(Targets(schema, read_table(path)), str(path))


def checked(targets: Targets, where: str = TABLE_FILE) -> Targets:
    """The targets, if every cell is what its column declares.

    Raises:
        ValueError: as :func:`load_targets`.
    """
    header = next(iter(targets.rows.values()))
    lacking = next((name for name in targets.schema.declared if name not in header), None)
    if lacking is not None:
        raise ValueError(f"{where} has no column {lacking!r}, which {SCHEMA_FILE} declares; add it.")
    problems = list(_problems(targets))
    if problems:
        others = f" {len(problems) - 1} other cells are wrong as well." if len(problems) > 1 else ""
        raise ValueError(f"{where}, {problems[0]}; mend the cell or the schema.{others}")
    return targets


def _problems(targets: Targets) -> Iterator[str]:
    entries: list[Column | Covariate] = [*targets.columns.values(), *targets.covariates.values()]
    for case, row in targets.rows.items():
        for entry in entries:
            try:
                encoded(entry, row) if isinstance(entry, Column) else standardising.raw_features(entry, row)
            except ValueError as error:  # collected: the message counts them
                yield f"case {case}, column {entry.name}: {error}"
        for name in targets.schema.groups:
            if not row[name]:
                yield f"case {case}, column {name}: it is empty, so nobody knows whose case it is"


def encoded(column: Column, row: Row) -> float:
    """The number of a row's target; see :meth:`Targets.encoded`.

    Raises:
        ValueError: the cell holds no number, no declared level, or a time without a mark of censoring.
    """
    text = row[column.name]
    if not text:
        return nan
    if column.is_discrete:
        if text not in column.levels:
            raise ValueError(f"{text!r} is no level, declared are {', '.join(column.levels)}")
        return float(column.levels.index(text))
    value = number_in(text)
    if column.kind == SURVIVAL:
        if value < 0:
            raise ValueError(f"the time {text} is negative")
        observed(column, row)
    return value


def observed(column: Column, row: Row) -> bool:
    """Whether a row's target is known, and no censored time.

    Raises:
        ValueError: a time is neither marked as censored (1) nor as seen (0).
    """
    if column.kind != SURVIVAL or not row[column.name]:
        return bool(row[column.name])
    mark = row[column.censoring]
    if mark not in CENSORING:
        raise ValueError(f"its {column.censoring} is {mark!r}, expected 1 (censored) or 0")
    return not CENSORING[mark]


def group_cases(rows: Mapping[str, Row], columns: Sequence[str]) -> dict[str, str]:
    """Case -> the first case that it is bound to by equal values of one of the columns; see :func:`bound`."""
    return bound({case: [(column, row[column]) for column in columns] for case, row in rows.items()})


def bound(marks: Mapping[str, Iterable[Hashable]]) -> dict[str, str]:
    """Case -> the first case with which it shares a mark, directly or by others.

    A patient with two names and a scan under two patients are one patient then.
    """
    leader = {case: case for case in marks}

    def first(case: str) -> str:
        while leader[case] != case:
            case = leader[case]
        return case

    order = {case: place for place, case in enumerate(marks)}
    seen: dict[Hashable, str] = {}
    for case, own in marks.items():
        for mark in own:
            pair = sorted((first(seen.setdefault(mark, case)), first(case)), key=order.__getitem__)
            leader[pair[1]] = pair[0]
    return {case: first(case) for case in marks}
