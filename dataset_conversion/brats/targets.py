"""What is known of whole cases, in the form that ``nnunet_ext targets`` reads: ``targets.csv`` and ``targets.json``.

The classes of survival are those of the challenge: less than 300 days, 300 to 450, more (Bakas 2018,
arXiv:1811.02629). A censored time has a class only where it is longer than 450 days.
"""

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dataset_conversion.brats.discovery import Case
from dataset_conversion.brats.files import write_whole
from dataset_conversion.brats.survival import RESECTIONS, Survival

TABLE, SCHEMA = "targets.csv", "targets.json"
SHORTEST, LONGEST = 300.0, 450.0
CLASSES = ("short", "medium", "long")
TARGETS: dict[str, dict[str, Any]] = {
    "grade": {"kind": "class", "levels": ["LGG", "HGG"]},
    "survival_class": {"kind": "ordinal", "levels": list(CLASSES)},
    "days": {"kind": "survival", "unit": "days", "censoring": "censored", "cuts": [SHORTEST, LONGEST]},
}
COVARIATES: dict[str, dict[str, Any]] = {
    "age": {"coding": "z"},
    "resection": {"coding": "one-hot", "levels": list(RESECTIONS)},
}
FIELDS = ("case", "patient", "set", "grade", "survival_class", "days", "censored", "age", "resection")
NOTHING = Survival("", "", "", "")


def class_of(days: str, censored: str) -> str:
    """Class of a survival; empty where it is not known."""
    if not days or (censored == "1" and float(days) <= LONGEST):
        return ""
    return CLASSES[(float(days) >= SHORTEST) + (float(days) > LONGEST)]


def rows_of(cases: Mapping[str, Case], test: set[str], survival: Mapping[str, Survival]) -> list[dict[str, str]]:
    """A row for each case, with all FIELDS."""
    rows = []
    for name, case in cases.items():
        known = survival.get(name, NOTHING)
        row = {"case": name, "patient": case.patient, "set": "test" if name in test else "train", "grade": case.grade}
        row["survival_class"] = class_of(known.days, known.censored)
        rows.append({**row, **known._asdict()})
    return rows


def schema_of(rows: list[dict[str, str]]) -> dict[str, Any]:
    """The schema of what can be learnt of the training cases: targets with two different values at least."""

    def values(name: str) -> set[str]:
        return {row[name] for row in rows if row[name] and row["set"] == "train"}

    columns = {name: declared for name, declared in TARGETS.items() if len(values(name)) > 1}
    if values("censored") == {"1"}:
        columns.pop("days", None)
    covariates = {name: declared for name, declared in COVARIATES.items() if values(name)}
    return {"format": 1, "columns": columns, "covariates": covariates, "groups": ["patient"]}


def texts_of(rows: list[dict[str, str]]) -> dict[str, str]:
    """Name of each file -> what it holds; nothing where there is no target."""
    schema = schema_of(rows)
    if not schema["columns"]:
        return {}
    text = io.StringIO()
    table = csv.DictWriter(text, FIELDS, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return {TABLE: text.getvalue(), SCHEMA: json.dumps(schema, indent=4) + "\n"}


def write_targets(folder: Path, texts: Mapping[str, str]) -> list[str]:
    """Write what is not there yet; give the names of the files that are there with another content and stay."""
    contents = {
        name: text.encode("utf-8", "surrogateescape") for name, text in texts.items()
    }  # a name need not be text
    for name, content in contents.items():
        if not (folder / name).exists():
            write_whole(folder / name, content)
    return [name for name, content in contents.items() if (folder / name).read_bytes() != content]
