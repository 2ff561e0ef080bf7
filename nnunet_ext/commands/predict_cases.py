"""Predict case-level targets (grade, class, number, time) from raw images to a table with probabilities and intervals.

Images are named as in training: CASE_0000.nii.gz and so on. OUTPUT/case_metrics.csv gets a row for each case and target
column, as a fold's validation writes them. The predictions of the folds are averaged. Intervals hold nine cases of ten:
a regression's comes from the residuals of the folds' validation cases, a survival's from its model.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_ext.commands.preprocessed import results_folder
from nnunet_ext.images.folder import cases_of, check_channel_numbers, named
from nnunet_ext.networks.channels import channel_names

if TYPE_CHECKING:
    import pandas as pd

    from nnunet_ext.outcomes.model import CaseModel

FOLDS = (0, 1, 2, 3, 4)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    add = parser.add_argument
    add("-i", required=True, type=Path, metavar="FOLDER", help="images, named CASE_0000 and so on, as in training")
    add("-o", required=True, type=Path, metavar="FOLDER", help="for the table; made if it does not exist")
    add("-d", required=True, metavar="DATASET", help="number or name of the dataset")
    add("-tr", required=True, metavar="TRAINER", help="e.g. nnUNetTrainer_CaseDualBranchGhost")
    add("-c", required=True, metavar="CONFIG", help="e.g. 3d_roi")
    add("-p", default="nnUNetPlans", metavar="PLANS", help="default: %(default)s")
    add("-f", nargs="+", type=_fold, default=FOLDS, metavar="FOLD", help="folds, whose mean is taken (default: 0 to 4)")
    add("-chk", default="checkpoint_final.pth", metavar="NAME", help="checkpoint (default: %(default)s)")
    add(
        "--targets",
        type=Path,
        metavar="CSV",
        help="a targets.csv with the truth, and with the covariates of a model that reads them",
    )
    add("--disable_tta", action="store_true", help="do not mirror; else each case is seen mirrored as in training")
    add("-device", default="cuda", choices=("cuda", "cpu", "mps"), help="default: %(default)s")


def _fold(text: str) -> int | str:
    return text if text == "all" else int(text)


def run(args: argparse.Namespace) -> int:
    """Predicts, writes the table and says what is in it."""
    import torch

    from nnunet_ext.outcomes import results
    from nnunet_ext.outcomes.model import load_model
    from nnunet_ext.outcomes.validation import INTERVALS, told

    if not args.i.is_dir():
        raise ValueError(f"There is no folder {args.i}; name the folder of the images with -i.")
    if args.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("This machine has no GPU that torch can use; give -device cpu.")
    folder = results_folder(args.d) / f"{args.tr}__{args.p}__{args.c}"
    model = load_model(folder, args.f, args.chk, torch.device(args.device), mirroring=not args.disable_tta)
    cases = cases_of(args.i, model.dataset_json["file_ending"])
    rows = _truth(args.targets)
    table, failed = _predict(model, cases, rows)
    if table is not None:
        args.o.mkdir(parents=True, exist_ok=True)
        facts = {"model": folder.name, "folds": list(args.f), "checkpoint": args.chk, "mirrored": not args.disable_tta}
        facts["intervals"] = INTERVALS
        metrics = results.write(args.o, table, model.columns, facts)
        print(f"{len(cases) - len(failed)} cases in {args.o / results.TABLE_FILE}")
        print(told(metrics) if any(metrics.values()) else "No truth was given, so there are no metrics.")
        _tell_intervals(model)
    for case, reason in failed.items():
        print(f"{case} could not be predicted: {reason}", file=sys.stderr)
    return 1 if failed else 0


def _truth(path: Path | None) -> dict[str, dict[str, str]]:
    from nnunet_ext.outcomes.tables import read_table

    return read_table(path) if path is not None else {}


def _predict(
    model: "CaseModel", cases: Mapping[str, Sequence[Path]], truth: Mapping[str, Mapping[str, str]]
) -> tuple["pd.DataFrame | None", dict[str, str]]:
    """The table of all cases that could be read, None of none, and why the others could not."""
    import pandas as pd
    from tqdm import tqdm

    parts, failed = [], {}
    for case, files in tqdm(cases.items(), desc="cases", file=sys.stderr):
        try:
            check_channel_numbers(files, model.dataset_json["file_ending"])
            _check_channels(model, files)
            found = model.read(files, truth.get(case))
        except (ValueError, RuntimeError, OSError) as error:  # told at the end, the others are predicted
            failed[case] = " ".join(str(error).split())
            continue
        parts += [_row(model, case, column, found[column.name], truth.get(case, {})) for column in model.columns]
    return (pd.concat(parts, ignore_index=True) if parts else None), failed


def _check_channels(model: "CaseModel", files: Sequence[Path]) -> None:
    """Refuses a case of other channels than the model reads; a photograph in colour is one file and has three."""
    wanted = len(channel_names(model.dataset_json))
    if len(files) == wanted:
        return
    images, _ = model.plans.image_reader_writer_class().read_images([str(path) for path in files])
    if len(images) != wanted:
        raise ValueError(f"it has {len(images)} channels, not {wanted}: {named([f.name for f in files])}.")


def _row(model: "CaseModel", case: str, column: Any, found: Any, truth: Mapping[str, str]) -> "pd.DataFrame":
    import pandas as pd

    from nnunet_ext.outcomes.results import TEST
    from nnunet_ext.outcomes.validation import rows_of

    told: dict[str, Any] = {"fold": TEST, "seed": model.seed, "truth": truth.get(column.name, "")}
    if column.censoring and truth.get(column.name):
        told["censored"] = float(truth.get(column.censoring) == "1")
    return pd.DataFrame(rows_of(column, [case], found) | told)


def _tell_intervals(model: "CaseModel") -> None:
    import math

    for name, reach in model.reach.items():
        if math.isinf(reach):
            print(f"{name} has no interval: these folds have fewer than nine validation cases with a value.")
