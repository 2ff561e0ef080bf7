"""Targets exchanged between the cases: does a case-level training then score at chance, as it must?

    python benchmarks/outcomes_permuted.py -d 501 -c 3d_fullres -tr TRAINER [--fold 0] [--permutations 3] --name NAME

The preprocessed dataset is linked into a temporary folder, and there the values of targets.csv are exchanged between
its rows (covariates and patients stay). Each permutation is trained and validated by nnUNetv2_train; the table shows
the metrics of each, beside those of the true targets where the folder nnUNet_results has that training. Writes
benchmarks/results/NAME.json and NAME.md. Exit codes: 0 done, 1 a training failed, 2 bad input.
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a script's own package is not on the path

from benchmarks import record  # noqa: E402 - needs the path above
from benchmarks.outcomes import SHOWN, rows, store  # noqa: E402
from nnunet_ext.outcomes.columns import CASE, SET  # noqa: E402
from nnunet_ext.outcomes.leaks import permuted  # noqa: E402
from nnunet_ext.outcomes.targets import TABLE_FILE, Targets, load_targets  # noqa: E402

TRUE = "true"


def exchanged(targets: Targets, path: Path, seed: int) -> str:
    """The text of targets.csv with the target columns of whole rows exchanged between patients."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        read = list(csv.DictReader(file))
    kept = {CASE, SET, *targets.schema.groups, *targets.schema.covariates}
    moved = [name for name in read[0] if name not in kept]
    patients = [targets.groups[row[CASE]] for row in read]
    order = permuted(np.arange(len(read)), patients, np.random.default_rng(seed))
    mixed = [{**row, **{name: read[other][name] for name in moved}} for row, other in zip(read, order, strict=True)]
    return "\n".join([",".join(read[0]), *(",".join(row.values()) for row in mixed)]) + "\n"


def train(args: argparse.Namespace, dataset: str, seed: int, root: Path) -> Path:
    """Trains on exchanged targets; the fold's folder."""
    source = Path(os.environ["nnUNet_preprocessed"], dataset)
    copy = root / f"permutation{seed}" / dataset
    copy.mkdir(parents=True)
    for path in source.iterdir():
        if path.name != TABLE_FILE:
            (copy / path.name).symlink_to(path)
    (copy / TABLE_FILE).write_text(exchanged(load_targets(source), source / TABLE_FILE, seed), encoding="utf-8")
    folders = {"nnUNet_preprocessed": str(copy.parent), "nnUNet_results": str(root / f"results{seed}")}
    words = ["nnUNetv2_train", dataset, args.c, args.fold, "-tr", args.tr, "-p", args.p, "-device", args.device]
    subprocess.run(words, env={**os.environ, **folders}, check=True, stdout=subprocess.DEVNULL)
    return Path(folders["nnUNet_results"], dataset, f"{args.tr}__{args.p}__{args.c}", f"fold_{args.fold}")


def table(found: list[dict[str, Any]]) -> str:
    """For people: a line for each target column, a column for each way."""
    ways = list(dict.fromkeys(row["targets"] for row in found))
    lines = []
    for column, kind in dict.fromkeys((row["column"], row["kind"]) for row in found):
        metric = SHOWN[kind][-1] if kind == "survival" else SHOWN[kind][0]
        of = {row["targets"]: row["metrics"].get(metric) for row in found if row["column"] == column}
        values = ["-" if of.get(way) is None else f"{of[way]:.3f}" for way in ways]
        lines.append([column, metric, *values])
    return record.markdown(["column", "metric", *ways], lines)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-d", required=True, metavar="DATASET")
    parser.add_argument("-c", required=True, metavar="CONFIGURATION")
    parser.add_argument("-tr", required=True, metavar="TRAINER")
    parser.add_argument("-p", default="nnUNetPlans", metavar="PLANS")
    parser.add_argument("-device", default="cpu")
    parser.add_argument("--fold", default="0")
    parser.add_argument("--permutations", type=int, default=3)
    parser.add_argument("--name", required=True, help="of the files of results")
    args = parser.parse_args()
    dataset = maybe_convert_to_dataset_name(args.d)
    true = Path(os.environ["nnUNet_results"], dataset, f"{args.tr}__{args.p}__{args.c}", f"fold_{args.fold}")
    found = [{"targets": TRUE, **row} for row in rows(true / "validation")] if (true / "validation").is_dir() else []
    with tempfile.TemporaryDirectory() as root:
        for seed in tqdm(range(1, args.permutations + 1), "permutations"):
            fold = train(args, dataset, seed, Path(root))
            found += [{"targets": f"permutation {seed}", **row} for row in rows(fold / "validation")]
    store(args.name, found, table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
