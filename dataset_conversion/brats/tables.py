"""Tables that lie in BraTS trees (grades, survival), whatever program saved them."""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

SEPARATORS = ",;\t"
GRADES = ("HGG", "LGG")
GRADE_COLUMN = "grade"
GRADE_TABLE = "name_mapping"


class Table(NamedTuple):
    """A table: its file, the names of its columns in lower case, its rows as they are (long and short ones, too)."""

    path: Path
    header: list[str]
    rows: list[list[str]]

    @property
    def is_of_grades(self) -> bool:
        """Whether grades are expected in it."""
        return GRADE_COLUMN in self.header or self.path.name.lower().startswith(GRADE_TABLE)

    def grades(self) -> dict[str, str]:
        """Grade of each case, whose name may be in any column, in lower case."""
        if GRADE_COLUMN not in self.header:
            return {}
        column = self.header.index(GRADE_COLUMN)
        graded = [(row, row[column].upper()) for row in self.rows if len(row) > column]
        return {name.lower(): grade for row, grade in graded if grade in GRADES for name in row if name}

    def names(self, cases: Iterable[str]) -> int:
        """How many of ``cases`` it has a row of."""
        cells = {cell.lower() for row in self.rows for cell in row}
        return sum(case.lower() in cells for case in cases)


def read_table(path: Path) -> Table:
    """Read a table in UTF-8, UTF-16 (with its mark) or Latin-1, separated by comma, semicolon or tab.

    Latin-1 has a character for every byte, so every file can be read; an empty one has no columns.
    """
    data = path.read_bytes()
    text = _decoded(data).replace("\x00", "")
    first = text.partition("\n")[0]
    separator = max(SEPARATORS, key=first.count)
    lines = [[cell.strip() for cell in line] for line in csv.reader(text.splitlines(), delimiter=separator)]
    filled = [line for line in lines if any(line)]
    return Table(path, [name.lower() for name in filled[0]] if filled else [], filled[1:])


def _decoded(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")
