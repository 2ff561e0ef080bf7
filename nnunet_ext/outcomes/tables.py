"""Reading a table of cases as spreadsheets save it, and refusing what cannot be meant.

pandas fills short rows and renames repeated columns without a word, so the standard library's reader is used.
"""

import csv
from math import isfinite
from pathlib import Path

from nnunet_ext.outcomes.columns import CASE, SET, TABLE_FILE

SEPARATORS = ",;\t"
TRAIN, TEST = "train", "test"
Row = dict[str, str]


def read_table(path: Path) -> dict[str, Row]:
    """Read a table with a column ``case``: case -> column -> text without blanks around it, in the file's order.

    UTF-8, with or without its mark; comma, semicolon or tab, whichever the first line has most.

    Raises:
        ValueError: no file or no text; no column ``case``; a column or a case that is there twice; a row that is too
            short or too long, or without a case; a ``set`` that is neither ``train`` nor ``test``.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name the table itself, as {path / TABLE_FILE}.")
    if not path.is_file():
        raise ValueError(f"There is no {path}; write one as docs/outcomes.md describes it.")
    lines = _lines(path)
    header = lines[0][1] if lines else []
    _check_header(path, header)
    rows: dict[str, Row] = {}
    for number, cells in lines[1:]:
        if len(cells) != len(header):
            raise ValueError(f"{path}, line {number} has {len(cells)} cells, the header {len(header)}; mend the line.")
        row = dict(zip(header, cells, strict=True))
        case = row.pop(CASE)
        if not case or case in rows:
            what = f"the case {case} a second time" if case else "no case"
            raise ValueError(f"{path}, line {number} has {what}; leave one row for each case.")
        if row.get(SET, "") not in ("", TRAIN, TEST):
            raise ValueError(f"{path}, case {case}: set is {row[SET]!r}; give {TRAIN} or {TEST}.")
        rows[case] = row
    if not rows:
        raise ValueError(f"{path} has no row; give one for each case.")
    return rows


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """The lines that are not empty, with their numbers."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8 ({error}); save it as CSV in UTF-8.") from error
    separator = max(SEPARATORS, key=text.partition("\n")[0].count)
    reader = csv.reader(text.splitlines(), delimiter=separator)
    stripped = ((reader.line_num, [cell.strip() for cell in line]) for line in reader)
    return [(number, cells) for number, cells in stripped if any(cells)]


def _check_header(path: Path, header: list[str]) -> None:
    if CASE not in header:
        raise ValueError(f"{path} has the columns {', '.join(header) or '(none)'} and no column {CASE}; add it.")
    twice = next((name for name in header if header.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"{path} has the column {twice!r} twice; leave one.")


def number_in(text: str) -> float:
    """A finite number that a cell holds.

    Raises:
        ValueError: it holds none, as the end of a sentence.
    """
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{text!r} is no number") from None
    if "_" in text:  # Python's own way of writing digits in groups
        raise ValueError(f"{text!r} is no number")
    if not isfinite(value):
        raise ValueError(f"{text!r} is not finite, and a value that is not known is an empty cell")
    return value
