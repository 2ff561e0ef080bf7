"""No figure stands in a document that no file of results holds."""

import json
import re

import pytest

from benchmarks import documents, record

DOCUMENTS = [record.ROOT / "README.md", *sorted(documents.DOCS.glob("*.md"))]
ELSEWHERE = {("zoo.md", "networks"), ("trainers.md", "recipes"), ("networks.md", "shares")}
"""Tables that other tests compare with what they come from."""
PROTOCOL = "real_data.md"
"""Shows what commands printed that are no benchmarks; each table stands below its command."""
MEASURED = re.compile(r"\d\.\d|%")
FIGURE = re.compile(r"[-+]?\d[\d.,x]*( ?%| min| s| GiB)?( / \d[\d.]*)*( \(.*\))?")


@pytest.mark.parametrize("place", documents.PLACES, ids=lambda p: f"{p.document}, {p.marker}")
def test_a_table_is_that_of_its_file(place):
    text = (documents.DOCS / place.document).read_text(encoding="utf-8")
    assert documents.marked(text, place.marker).strip() == documents.table_of(place), "run `make tables`"


def figures(table):
    """The columns that hold figures and nothing else; whole numbers alone are codes and labels."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    columns = [[cell for cell in column if cell] for column in zip(*rows, strict=False)]
    return [c for c in columns if all(map(FIGURE.fullmatch, c)) and any(MEASURED.search(cell) for cell in c)]


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if path.name != PROTOCOL], ids=lambda p: p.name)
def test_a_table_of_figures_has_a_file(path):
    text = path.read_text(encoding="utf-8")
    known = [(p.document, p.marker) for p in documents.PLACES] + sorted(ELSEWHERE)
    for marker in (marker for document, marker in known if document == path.name):
        text = text.replace(documents.marked(text, marker), "")
    for table in documents.tables(text):
        assert not figures(table), f"give this table a file and a place in benchmarks/documents.py:\n{table}"


def test_what_a_column_of_figures_is():
    rows = ["| x | 1.5 | 128x96 | 2 of 3 | 0.5 / 0.25 |", "| y |  | 64x64 | 7 | 1 |"]
    table = "\n".join(["| a | b | c | d | e |", "|---|---|---|---|---|", *rows])
    assert [column[0] for column in figures(table)] == ["1.5", "0.5 / 0.25"]


@pytest.mark.parametrize("path", sorted(record.RESULTS.glob("*.json")), ids=lambda p: p.name)
def test_results_say_what_made_them(path):
    found = json.loads(path.read_text(encoding="utf-8"))
    found = {**found, **found.get("environment", {})}
    assert re.fullmatch(r"[0-9a-f]{40}\+?", found["commit"])
    assert found["command"].startswith("python ")


def test_every_table_of_results_has_its_figures_as_json():
    for path in record.RESULTS.glob("*.md"):
        assert path.with_suffix(".json").is_file(), path.name


def test_the_tables_of_a_text():
    text = "before\n\n| a |\n|---|\n| 1 |\n\nbetween | no table\n| b |\n|---|"
    assert documents.tables(text) == ["| a |\n|---|\n| 1 |", "| b |\n|---|"]


def test_a_table_is_put_between_its_markers():
    text = "a\n<!-- x -->\nold\n<!-- /x -->\nb\n<!-- y -->\n<!-- /y -->\n"
    assert documents.put(text, "x", "new") == text.replace("old", "new")
    assert documents.put(text, "y", "new") == text.replace("<!-- y -->\n", "<!-- y -->\nnew\n")
    with pytest.raises(ValueError, match="once, found 0"):
        documents.put(text, "z", "new")
