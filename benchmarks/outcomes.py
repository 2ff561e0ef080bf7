"""Put into a table what the validations of case-level trainings found.

    python benchmarks/outcomes.py FOLD [FOLD ...] --name outcomes_phantoms

FOLD is the folder of a fold that has been validated, or one that ``nnunet_ext predict-cases --targets`` wrote. Writes
benchmarks/results/NAME.json and NAME.md.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a script's own package is not on the path

from benchmarks import record  # noqa: E402 - needs the path above
from nnunet_ext.outcomes import results  # noqa: E402
from nnunet_ext.trainers import progress  # noqa: E402

# of each kind, what is shown; the JSON file has all
SHOWN = {
    "class": ("auc", "balanced_accuracy", "accuracy"),
    "ordinal": ("quadratic_kappa", "class_mae", "accuracy"),
    "regression": ("r2", "mae", "coverage"),
    "survival": ("r2", "mae", "c_index"),
}


def rows(folder: Path) -> list[dict[str, Any]]:
    """A row for each target column of a folder."""
    found = results.read(folder)
    told = json.loads((folder / results.FACTS_FILE).read_text(encoding="utf-8"))
    return [
        {
            "trainer": found.facts.get("trainer", found.facts.get("model", "")),
            "trained_at": trained_at(folder),
            "training_cases": found.facts.get("training_cases"),
            "cases": len(found.of(name)),
            "column": name,
            "kind": column.kind,
            "metrics": told["metrics"][name],
        }
        for name, column in found.columns.items()
    ]


def trained_at(folder: Path) -> str | None:
    """The commit of the training, by its log; None for a prediction."""
    log = progress.read(folder.parent)
    return log[-1]["commit"] if log else None


def markdown(found: list[dict[str, Any]]) -> str:
    """The table for people."""
    lines = []
    for row in found:
        shown = {name: row["metrics"].get(name) for name in SHOWN[row["kind"]]}
        values = ", ".join(f"{name} {'-' if value is None else f'{value:.3f}'}" for name, value in shown.items())
        lines.append(
            [row["trainer"], str(row["training_cases"]), str(row["cases"]), row["column"], row["kind"], values]
        )
    return record.markdown(["trainer", "trained with", "cases", "column", "kind", "metrics"], lines)


def store(name: str, found: list[dict[str, Any]], table: str) -> None:
    """Writes the rows and their table, and shows the table."""
    record.write_json(record.RESULTS / f"{name}.json", found)
    (record.RESULTS / f"{name}.md").write_text(table + "\n", encoding="utf-8")
    print(table)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "folders", nargs="+", type=Path, metavar="FOLD", help="a fold's folder, or that of a prediction"
    )
    parser.add_argument("--name", required=True, help="of the files of results")
    args = parser.parse_args()
    folders = [folder / "validation" if (folder / "validation").is_dir() else folder for folder in args.folders]
    found = [row for folder in folders for row in rows(folder)]
    store(args.name, found, markdown(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
