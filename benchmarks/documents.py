"""Put the tables of ``benchmarks/results`` into the documents, between the markers that name them.

    python benchmarks/documents.py     (a part of `make tables`)

No figure is copied by hand: a test compares each marked table with its file.
"""

import argparse
import re
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a script's own package is not on the path

from benchmarks import record  # noqa: E402 - needs the path above

DOCS = ROOT / "docs"


class Place(NamedTuple):
    """Where a table stands in the documents."""

    document: str
    marker: str
    file: str  # of the results
    number: int = 0  # which of the file's tables
    rows: str = ""  # those that begin so, where not all are shown


PLACES = (
    Place("networks.md", "oracles", "oracles.md"),
    Place("networks.md", "contract", "contract.md"),
    Place("networks.md", "speed", "forward_cpu.md"),
    Place("networks.md", "learning", "learn.md"),
    Place("networks.md", "initialisations", "learn.md", 1),
    Place("cost.md", "prediction", "prediction_cpu.md"),
    Place("cost.md", "networks", "pam.md"),
    Place("statistics.md", "nulls", "claims.md"),
    Place("statistics.md", "power", "claims.md", 1),
    Place("statistics.md", "published", "claims.md", 2),
    Place("outcomes.md", "outcomes null", "outcomes_null.md"),
    Place("outcomes.md", "timm", "timm_backbones.md"),
    Place("experiments.md", "kills", "sweep_kills.md"),
    Place("photographs.md", "defects", "outcomes_defects.md"),
    Place("photographs.md", "pairs", "outcomes_pairs.md"),
    Place("plans.md", "plans", "plans.md"),
    Place("plans.md", "covered", "plans_covered_1.md"),
    Place("outcomes.md", "phantoms", "outcomes_phantoms.md"),
    Place("outcomes.md", "permuted", "outcomes_permuted.md"),
    Place("cascade.md", "phantoms", "cascade_phantoms.md", 1),
    Place("cascade.md", "recall", "cascade_recall.md"),
    Place("cascade.md", "quality", "cascade_quality.md", 1, "mean"),
    Place("cascade.md", "commands", "cascade_commands.md"),
    Place("cascade.md", "same network", "cascade_same_network.md"),
)


def tables(text: str) -> list[str]:
    """The Markdown tables of a text, in their order."""
    return [found[0].strip() for found in re.finditer(r"(?:^\|.*\n?)+", text, re.MULTILINE)]


def marked(text: str, marker: str) -> str:
    """What stands between a document's markers.

    Raises:
        ValueError: they do not stand there once each.
    """
    parts = re.findall(rf"<!-- {re.escape(marker)} -->\n(.*?)<!-- /{re.escape(marker)} -->", text, re.DOTALL)
    if len(parts) != 1:
        raise ValueError(f"Expected the markers <!-- {marker} --> and <!-- /{marker} --> once, found {len(parts)}.")
    return str(parts[0])


def put(text: str, marker: str, table: str) -> str:
    """The document with the table between its markers."""
    begin, end = f"<!-- {marker} -->\n", f"<!-- /{marker} -->"
    return text.replace(f"{begin}{marked(text, marker)}{end}", f"{begin}{table}\n{end}")


def table_of(place: Place) -> str:
    """The table that belongs there."""
    lines = tables((record.RESULTS / place.file).read_text(encoding="utf-8"))[place.number].splitlines()
    return "\n".join([*lines[:2], *(line for line in lines[2:] if line.startswith(f"| {place.rows}"))])


def write() -> None:
    """Renews every marked table, or none where one of the files is missing."""
    texts = {place.document: (DOCS / place.document).read_text(encoding="utf-8") for place in PLACES}
    for place in PLACES:
        texts[place.document] = put(texts[place.document], place.marker, table_of(place))
    for document, text in texts.items():
        (DOCS / document).write_text(text, encoding="utf-8")


def main() -> None:
    """The command."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    write()
    print(f"{len(PLACES)} tables in {len({place.document for place in PLACES})} documents")


if __name__ == "__main__":
    main()
