"""Survival tables of BraTS 2017 to 2020: days, age and extent of resection of some of the cases.

Their columns have other names in each edition (``Brats17ID, Age, Survival``; ``BraTS18ID`` and ``BraTS19ID`` with
``ResectionStatus``; ``Brats20ID, Age, Survival_days, Extent_of_Resection``), and a patient who lives is written
``ALIVE (361 days later)``: the time is censored then.
"""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from dataset_conversion.brats.problem import Problem
from dataset_conversion.brats.tables import Table

COLUMNS = {
    "case": re.compile(r"brats_?(20)?\d\d_?id"),
    "days": re.compile(r"survival(_days)?"),
    "age": re.compile(r"age"),
    "resection": re.compile(r"resectionstatus|extent_of_resection"),
}
"""What a column holds -> how editions call it, in lower case."""
ALIVE = re.compile(r"alive \((\d+) days later\)", re.I)
UNKNOWN = ("", "na", "n/a")
RESECTIONS = ("GTR", "STR", "NA")
"""Gross total, subtotal, and not available: BraTS has it as a value of its own, and so have we."""


class Survival(NamedTuple):
    """What a table says of a case: empty where it says nothing.

    Attributes:
        days: from diagnosis (or surgery) to death, or to the last news of a patient who lived then.
        censored: ``1`` for such a patient, else ``0``; empty where there are no days.
        age: in years, as the table writes it.
        resection: one of RESECTIONS.
    """

    days: str
    censored: str
    age: str
    resection: str


def _places(table: Table) -> dict[str, int]:
    """What each column of a survival table holds -> its place; nothing where it is no such table."""
    found = {
        what: place
        for what, pattern in COLUMNS.items()
        for place, name in enumerate(table.header)
        if pattern.fullmatch(name)
    }
    return found if "case" in found and {"days", "age"} & found.keys() else {}


def is_of_survival(table: Table) -> bool:
    """Whether a table has the columns of a survival table."""
    return bool(_places(table))


def read_survival(tables: Iterable[Table], names: Iterable[str]) -> tuple[dict[str, Survival], list[Problem]]:
    """What the tables say of cases.

    Args:
        tables: of any kind.
        names: of the cases.

    Returns:
        Case -> its survival, and the cells that cannot be meant: a row of another content for the same case included.
    """
    known = {name.lower(): name for name in names}
    found: dict[str, Survival] = {}
    problems = []
    for table in tables:
        places = _places(table)
        for row in table.rows if places else ():
            cells = {what: row[place] if place < len(row) else "" for what, place in places.items()}
            case = known.get(cells["case"].lower())
            if case is None:
                continue
            survival, texts = _survival(cells)
            if found.setdefault(case, survival) != survival:
                texts = [*texts, "has two rows that differ"]
            problems += [Problem(text, "mend the table", case, table.path.name) for text in texts]
    return found, problems


def _survival(cells: Mapping[str, str]) -> tuple[Survival, list[str]]:
    """The survival of a row, and what is wrong with its cells."""
    texts = []
    days, censored = _days(cells.get("days", ""))
    if days is None:
        texts.append(f"has the survival {cells['days']!r}, expected days or ALIVE (361 days later)")
    age = "" if cells.get("age", "").lower() in UNKNOWN else cells["age"]
    if age and not re.fullmatch(r"\d{1,3}([.,]\d*)?", age):
        texts.append(f"has the age {age!r}, expected years")
    resection = cells.get("resection", "").upper() or "NA"
    if resection not in RESECTIONS:
        texts.append(f"has the resection {resection!r}, expected {', '.join(RESECTIONS)}")
    return Survival(days or "", censored, age.replace(",", "."), resection), texts


def _days(text: str) -> tuple[str | None, str]:
    """Days and whether they are censored, 1 or 0; None for what is neither."""
    if text.lower() in UNKNOWN:
        return "", ""
    if alive := ALIVE.fullmatch(text):
        return alive[1], "1"
    return (text, "0") if re.fullmatch(r"\d+(\.\d+)?", text) else (None, "")
