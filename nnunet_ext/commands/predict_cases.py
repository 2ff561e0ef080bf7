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

    from nnunet_ext.outcomes.columns import Column
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

    from nnunet_ext.outcomes.model import load_model

    if not args.i.is_dir():
        raise ValueError(f"There is no folder {args.i}; name the folder of the images with -i.")
    if args.o.exists() and not args.o.is_dir():
        raise ValueError(f"{args.o} is a file; name a folder with -o.")
    if len(set(args.f)) < len(args.f):
        raise ValueError(f"-f is {' '.join(map(str, args.f))}; name each fold once.")
    if args.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("This machine has no GPU that torch can use; give -device cpu.")
    folder = results_folder(args.d) / f"{args.tr}__{args.p}__{args.c}"
    model = load_model(folder, args.f, args.chk, torch.device(args.device), mirroring=not args.disable_tta)
    cases = cases_of(args.i, model.dataset_json["file_ending"])
    given = Given(args.targets, model, list(cases), args.d)
    table, failed = _predict(model, cases, given)
    if table is not None:
        _write(args, folder, model, table, given.groups)
    for case, reason in failed.items():
        print(f"{case} could not be predicted: {reason}", file=sys.stderr)
    return 1 if failed else 0


def _write(
    args: argparse.Namespace, folder: Path, model: "CaseModel", table: "pd.DataFrame", groups: Sequence[str]
) -> None:
    """Writes the table and says what is in it."""
    from nnunet_ext.outcomes import results
    from nnunet_ext.outcomes.validation import INTERVALS, told

    args.o.mkdir(parents=True, exist_ok=True)
    facts = {"model": folder.name, "folds": list(args.f), "checkpoint": args.chk, "mirrored": not args.disable_tta}
    metrics = results.write(args.o, table, model.columns, {**facts, "intervals": INTERVALS}, groups)
    print(f"{table['case'].nunique()} cases in {args.o / results.TABLE_FILE}")
    print(
        told(metrics, "Cases with a truth") if any(metrics.values()) else "No truth is known, so there are no metrics."
    )
    _tell_intervals(model, args.chk)


class Given:
    """What the table of ``--targets`` tells of the cases that are predicted: truth, covariates, patients.

    Args:
        path: of the table; None where there is none, and then nothing is told.
        model: what it predicts and reads.
        cases: that are predicted.
        dataset: whose targets.json names the columns of patients.

    Raises:
        ValueError: the table has none of the cases, or a cell that is not what its column declares.
    """

    def __init__(self, path: Path | None, model: "CaseModel", cases: Sequence[str], dataset: str) -> None:
        self.rows: dict[str, dict[str, str]] = {}
        self.groups: list[str] = []
        if path is None:
            return
        from nnunet_ext.outcomes.columns import Schema
        from nnunet_ext.outcomes.tables import read_table
        from nnunet_ext.outcomes.targets import Targets, checked

        table = read_table(path)
        self.rows = {case: table[case] for case in cases if case in table}
        if not self.rows:
            raise ValueError(
                f"{path} has a row of none of the {len(cases)} cases, such as {cases[0]}; name them alike."
            )
        header = next(iter(self.rows.values()))
        columns = {column.name: column for column in model.columns if column.name in header}
        self.groups = [name for name in _groups(dataset) if name in header]
        covariates = {covariate.name: covariate for covariate in model.covariates}
        checked(Targets(Schema(columns, covariates, tuple(self.groups)), self.rows), str(path))

    def truth(self, case: str, column: "Column") -> dict[str, Any]:
        """The table's fields of a case that come from its row."""
        from nnunet_ext.outcomes.targets import observed

        row = self.rows.get(case, {})
        told: dict[str, Any] = {"truth": row.get(column.name, ""), **{name: row.get(name, "") for name in self.groups}}
        if column.censoring and row.get(column.name):
            told["censored"] = float(not observed(column, row))
        return told


def _groups(dataset: str) -> tuple[str, ...]:
    """The columns that tell who is one patient, where the dataset's targets are on this machine."""
    import os

    from nnunet_ext.outcomes.columns import SCHEMA_FILE, load_schema

    name = results_folder(dataset).name
    places = [Path(os.environ.get(f"nnUNet_{kind}") or os.devnull, name) for kind in ("preprocessed", "raw")]
    path = next((place / SCHEMA_FILE for place in places if (place / SCHEMA_FILE).is_file()), None)
    return load_schema(path).groups if path else ()


def _predict(
    model: "CaseModel", cases: Mapping[str, Sequence[Path]], given: "Given"
) -> tuple["pd.DataFrame | None", dict[str, str]]:
    """The table of all cases that could be read, None of none, and why the others could not."""
    import pandas as pd
    from tqdm import tqdm

    parts, failed = [], {}
    for case, files in tqdm(cases.items(), desc="cases", file=sys.stderr):
        try:
            check_channel_numbers(files, model.dataset_json["file_ending"])
            _check_channels(model, files)
            found = model.read(files, given.rows.get(case))
        except (ValueError, RuntimeError, OSError) as error:  # told at the end, the others are predicted
            failed[case] = " ".join(str(error).split())
            continue
        parts += [_row(model, case, column, found[column.name], given) for column in model.columns]
    return (pd.concat(parts, ignore_index=True) if parts else None), failed


def _check_channels(model: "CaseModel", files: Sequence[Path]) -> None:
    """Refuses a case of other channels than the model reads; a photograph in colour is one file and has three."""
    wanted = len(channel_names(model.dataset_json))
    if len(files) == wanted:
        return
    images, _ = model.plans.image_reader_writer_class().read_images([str(path) for path in files])
    if len(images) != wanted:
        raise ValueError(f"it has {len(images)} channels, not {wanted}: {named([f.name for f in files])}.")


def _row(model: "CaseModel", case: str, column: "Column", found: Any, given: Given) -> "pd.DataFrame":
    import pandas as pd

    from nnunet_ext.outcomes.results import TEST
    from nnunet_ext.outcomes.validation import rows_of

    told = {"fold": TEST, "seed": model.seed, **given.truth(case, column)}
    return pd.DataFrame(rows_of(column, [case], found) | told)


def _tell_intervals(model: "CaseModel", checkpoint: str) -> None:
    import math

    for name, reach in model.reach.items():
        if math.isinf(reach):
            print(
                f"{name} has no interval: these folds have no validation (nnUNetv2_train ... --val makes one), or "
                "fewer than nine validation cases with a value."
            )
    others = sorted(set(model.validated_by) - {checkpoint})
    if others and any(map(math.isfinite, model.reach.values())):
        print(
            f"Intervals are by the errors of {', '.join(others)} on validation cases, the predictions of {checkpoint}."
        )
