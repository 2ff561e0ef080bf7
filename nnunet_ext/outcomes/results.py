"""``case_metrics.csv`` and ``case_metrics.json``: what a fold's validation, or a prediction, says of every case.

``case_metrics.csv``: one row for each case and target column with the fields of ``FIELDS`` and ``p_<level>``, the
probability of each level, empty where the level is not of that column; and, where a writer knows them, the fields that
tell who is one patient. ``case_metrics.json``: the columns' declarations, the names of those further fields, facts
about the training, and the metrics of these cases.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nnunet_ext.evaluation.json_files import read_json
from nnunet_ext.evaluation.table import plain, whole
from nnunet_ext.outcomes.cases import Predictions
from nnunet_ext.outcomes.columns import SURVIVAL, Column, Schema, schema_from
from nnunet_ext.outcomes.metrics import measured

TABLE_FILE, FACTS_FILE = "case_metrics.csv", "case_metrics.json"
FORMAT = 1
FIELDS = ("case", "patient", "column", "kind", "prediction", "truth", "lower", "upper", "fold", "seed", "censored")
OPTIONAL = ("patient", "truth", "lower", "upper", "seed", "censored")  # filled where a writer leaves them out
WORDS = ("case", "patient", "column", "kind", "prediction", "truth", "fold", "seed")
PROBABILITY = "p_"
TEST = "test"
"""The fold of cases on which nothing was trained or tuned."""
AGAIN = "write it anew, a fold's by `nnUNetv2_train ... --val`, a prediction's by `nnunet_ext predict-cases`"
"""What to do about a damaged file."""


@dataclass(frozen=True)
class Results:
    """What one folder holds.

    Attributes:
        table: see the head of this module; words are str ("" where missing), the other fields float.
        columns: name -> declaration.
        facts: about the training.
        groups: fields of the table that tell who is one patient, as the writer's table of targets has them.
    """

    table: pd.DataFrame
    columns: Mapping[str, Column]
    facts: Mapping[str, Any]
    groups: tuple[str, ...] = ()

    def of(self, column: str) -> pd.DataFrame:
        """The rows of a column, indexed by case."""
        return self.table[self.table["column"] == column].set_index("case", drop=False)

    def predictions(self, column: str) -> Predictions:
        """Of a column, in the order of its rows."""
        return predictions_of(self.columns[column], self.of(column))


def write(
    folder: Path,
    table: pd.DataFrame,
    columns: Sequence[Column],
    facts: Mapping[str, Any] | None = None,
    groups: Sequence[str] = (),
) -> dict[str, dict[str, float]]:
    """Writes both files, each whole or not at all.

    Args:
        folder: ``validation`` of a fold, or that of a prediction.
        table: the rows; fields of ``OPTIONAL`` may be left out.
        columns: declarations of all columns in it.
        facts: about the training.
        groups: further fields of the table, or ``patient``, that tell who is one patient.

    Returns:
        column -> metric -> value, NaN where it is undefined; empty for a column without truth.

    Raises:
        ValueError: a prediction is missing or not finite, a case is there twice, a level is not declared, a field is
            unknown.
    """
    declared = {column.name: column for column in columns}
    ordered = checked(_filled(table, columns, groups), declared, "The table to be written", groups)
    found = Results(ordered, declared, facts or {})
    metrics = {column.name: _values(found, column) for column in columns}
    declarations = Schema(declared).as_dict()["columns"]
    told = {"format": FORMAT, "columns": declarations, "facts": dict(facts or {}), "metrics": metrics}
    told |= {"groups": list(groups)} if groups else {}
    whole(folder / FACTS_FILE, json.dumps(plain(told), indent=1, allow_nan=False) + "\n")
    whole(folder / TABLE_FILE, ordered.to_csv(index=False, lineterminator="\n"))
    return metrics


def read(folder: Path) -> Results:
    """What a folder holds, checked.

    Raises:
        ValueError: files are missing, of another format or contradict each other; see :func:`write` as well.
    """
    table, told = folder / TABLE_FILE, folder / FACTS_FILE
    if missing := [path.name for path in (table, told) if not path.is_file()]:
        raise ValueError(
            f"{folder} holds no {' and no '.join(missing)}; the validation of a case-level training writes both."
        )
    found = read_json(told, AGAIN)
    try:
        return _of_files(table, told, found)
    except ValueError as error:  # of whatever kind, the remedy is the same
        raise ValueError(f"{str(error).removesuffix('.')}; {AGAIN}.") from error


def _of_files(table: Path, told: Path, found: Mapping[str, Any]) -> Results:
    if found.get("format") != FORMAT:
        raise ValueError(f"{told} has the format {found.get('format')}, this version reads {FORMAT}")
    facts, groups = found.get("facts", {}), found.get("groups", [])
    right = isinstance(found.get("columns"), dict) and isinstance(facts, dict) and isinstance(groups, list)
    if not right:
        raise ValueError(f"{told} lacks the declarations of the columns, or the facts of the training")
    columns = schema_from({"columns": found["columns"]}, str(told)).columns
    names = tuple(map(str, groups))
    rows = _with_numbers(_cells(table), names, str(table))
    return Results(checked(rows, columns, str(table), names), columns, facts, names)


def _cells(path: Path) -> pd.DataFrame:
    """The cells of a table as text; of a line that was cut off pandas would make empty ones without a word."""
    try:
        text = path.read_text(encoding="utf-8")
        lines = [line for line in csv.reader(io.StringIO(text, newline=""), strict=True) if line]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is no table ({error})") from error
    if not lines or not lines[1:]:
        raise ValueError(f"{path} has no row")
    head, *rows = lines
    if len(set(head)) < len(head):
        raise ValueError(f"{path} has a field twice in {', '.join(head)}")
    short = next((row for row in rows if len(row) != len(head)), None)
    if short is not None:
        raise ValueError(f"{path} has {len(short)} cells in a line of {short[0]!r}, and {len(head)} in its first line")
    return pd.DataFrame(rows, columns=head, dtype=str)


def _with_numbers(cells: pd.DataFrame, groups: Sequence[str], where: str) -> pd.DataFrame:
    """The fields that are numbers as such, NaN where a cell is empty: a level may be called "NA", a number may not."""
    made = cells.copy()
    for name in (str(field) for field in cells if field not in {*WORDS, *groups}):
        wrong = cells[_as_numbers(cells[name]).isna() & cells[name].ne("")]
        if len(wrong):
            raise ValueError(f"{where} has {wrong.iloc[0][name]!r} as {name}; expected a number")
        made[name] = cells[name].mask(cells[name].eq(""), "nan").astype(float)
    return made


def predictions_of(column: Column, rows: pd.DataFrame) -> Predictions:
    """Arrays of one column's rows; levels as indices, a missing truth as NaN (-1 for levels)."""
    numbers = {name: rows[name].to_numpy(float) for name in ("lower", "upper")}
    censored = rows["censored"].to_numpy(float) == 1
    if not column.is_discrete:
        truth = pd.to_numeric(rows["truth"]).to_numpy(float)
        return Predictions(truth, rows["prediction"].astype(float).to_numpy(), None, **numbers, censored=censored)
    index = {level: i for i, level in enumerate(column.levels)} | {"": -1}
    truth, prediction = (rows[name].map(index).to_numpy() for name in ("truth", "prediction"))
    names = [PROBABILITY + level for level in column.levels]
    given = set(names) <= set(rows.columns) and not rows[names].isna().to_numpy().any()
    return Predictions(truth, prediction, rows[names].to_numpy(float) if given else None, **numbers, censored=censored)


def checked(table: pd.DataFrame, columns: Mapping[str, Column], where: str, groups: Sequence[str] = ()) -> pd.DataFrame:
    """The table in the order of its fields, if all of it means something.

    Raises:
        ValueError: see :func:`write`.
    """
    levels = list(dict.fromkeys(PROBABILITY + level for c in columns.values() for level in c.levels))
    further = [name for name in groups if name not in FIELDS]
    _refuse_fields(table, [*levels, *further], where)
    present = [name for name in levels if name in table]
    ordered = table[[*FIELDS[:8], *present, *FIELDS[8:], *further]].reset_index(drop=True)
    if unknown := sorted(set(ordered["column"]) - set(columns)):
        raise ValueError(f"{where} has rows of {unknown[0]}, which is not among the columns {', '.join(columns)}.")
    twice = ordered[ordered.duplicated(["case", "column"])]
    if len(twice):
        raise ValueError(f"{where} has the case {twice.iloc[0]['case']} twice for {twice.iloc[0]['column']}.")
    for name, rows in ordered.groupby("column", sort=False):
        _refuse_rows(columns[str(name)], rows, where)
    return ordered


def _refuse_fields(table: pd.DataFrame, further: Sequence[str], where: str) -> None:
    if missing := [name for name in FIELDS if name not in table]:
        raise ValueError(f"{where} lacks the fields {', '.join(missing)}.")
    if unknown := [str(name) for name in table.columns if name not in {*FIELDS, *further}]:
        raise ValueError(
            f"{where} has the unknown fields {', '.join(unknown)}; known are {', '.join(FIELDS)}, p_<level>."
        )
    if table.empty:
        raise ValueError(f"{where} has no row.")


def _refuse_rows(column: Column, rows: pd.DataFrame, where: str) -> None:
    """Refuses rows of a column whose kind, prediction or truth is not what was declared."""
    if wrong := sorted(set(rows["kind"]) - {column.kind}):
        raise ValueError(f"{where} calls {column.name} {wrong[0]}, but it is declared as {column.kind}.")
    for name, may_miss in (("prediction", False), ("truth", True)):
        right = rows[name].isin(column.levels) if column.is_discrete else np.isfinite(_as_numbers(rows[name]))
        bad = rows[~(right | (rows[name].eq("") & may_miss))]
        if len(bad):
            expected = f"one of {', '.join(column.levels)}" if column.is_discrete else "a finite number"
            raise ValueError(
                f"{where} has {bad.iloc[0][name] or 'nothing'!r} as {name} of {column.name} for "
                f"{bad.iloc[0]['case']}; expected {expected}."
            )
    shares = rows[[name for level in column.levels if (name := PROBABILITY + level) in rows]]
    given = shares.dropna(how="all")
    if len(given) and (
        given.isna().to_numpy().any() or (given.sum(axis=1) - 1).abs().max() > 1e-3 or (given < 0).any(axis=None)
    ):
        raise ValueError(f"{where} has probabilities of {column.name} that are missing, negative or do not sum to 1.")


def _as_numbers(words: "pd.Series[str]") -> "pd.Series[float]":
    return pd.to_numeric(words, errors="coerce").astype(float)


def _filled(table: pd.DataFrame, columns: Sequence[Column], groups: Sequence[str]) -> pd.DataFrame:
    """With the optional fields, and with words as text as they come back from the file."""
    filled = table.copy()
    for name in OPTIONAL:
        if name not in filled:
            filled[name] = filled["case"] if name == "patient" and "case" in filled else np.nan
    for name in (word for word in dict.fromkeys((*WORDS, *groups)) if word in filled):
        filled[name] = [_word(value) for value in filled[name]]
    if {"case", "patient"} <= set(filled):  # one who is not named is nobody else's patient
        filled["patient"] = filled["patient"].mask(filled["patient"].eq(""), filled["case"])
    times = [column.name for column in columns if column.kind == SURVIVAL]
    if "column" in filled:
        is_time = filled["column"].isin(times)
        filled["censored"] = (
            filled["censored"].where(is_time).astype(float).mask(is_time & filled["censored"].isna(), 0.0)
        )
    return filled


def _word(value: Any) -> str:
    """As it is written: nothing for what is missing, whole numbers without a point."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return repr(float(value)) if isinstance(value, float | np.floating) else str(value)


def _values(found: Results, column: Column) -> dict[str, float]:
    rows = found.of(column.name)
    known = rows[rows["truth"] != ""]
    if known.empty:
        return {}
    return {name: value for name, (value, _) in measured(column, predictions_of(column, known)).items()}
