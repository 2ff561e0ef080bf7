"""Put into a table what ``nnunet_ext outcomes`` found, of methods, baselines and ensembles.

    python benchmarks/judged.py DIR --metrics mae r2 --name outcomes_pairs

DIR is what the command wrote. The first metric is shown with its interval. Writes benchmarks/results/NAME.json and
NAME.md.
"""

import argparse
import csv
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a script's own package is not on the path

from benchmarks import record  # noqa: E402 - needs the path above
from benchmarks.outcomes import store  # noqa: E402

SUMMARY_FILE = "outcomes_summary.csv"
Row = dict[str, Any]


def read(folder: Path, metrics: list[str]) -> list[Row]:
    """The rows of the summary, a dictionary of its metrics each.

    Raises:
        ValueError: the folder has no summary, or lacks a metric.
    """
    path = folder / SUMMARY_FILE
    if not path.is_file():
        raise ValueError(f"{folder} has no {SUMMARY_FILE}; give what `nnunet_ext outcomes` wrote.")
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    lacking = set(metrics) - {row["metric"] for row in rows}
    if lacking:
        known = ", ".join(dict.fromkeys(row["metric"] for row in rows))
        raise ValueError(f"{path} has no {', '.join(sorted(lacking))}; it has {known}.")
    return [row for row in rows if row["metric"] in metrics]


def table(rows: list[Row], metrics: list[str]) -> str:
    """A line for each method and set of cases, in the file's order."""
    lines = []
    for key in dict.fromkeys((row["column"], row["tested"], row["method"]) for row in rows):
        mine = {r["metric"]: r for r in rows if (r["column"], r["tested"], r["method"]) == key}
        shown = [_number(mine[name], interval=name == metrics[0]) if name in mine else "-" for name in metrics]
        lines.append([*key, next(iter(mine.values()))["patients"], *shown])
    return record.markdown(["column", "tested on", "method", "patients", *metrics], lines)


def _number(row: Row, *, interval: bool) -> str:
    if not row["value"]:
        return "-"
    value = f"{float(row['value']):.3f}"
    if not (interval and row["low"] and row["high"]):
        return value
    return f"{value} ({float(row['low']):.3f} to {float(row['high']):.3f})"


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--metrics", nargs="+", required=True)
    parser.add_argument("--name", required=True, help="of the files of results")
    args = parser.parse_args()
    try:
        rows = read(args.folder, args.metrics)
    except ValueError as error:
        parser.error(str(error))
    store(args.name, rows, table(rows, args.metrics))
    return 0


if __name__ == "__main__":
    sys.exit(main())
