"""Average several models with weights that are found on validation cases only, region by region.

Each --model names a model's validation (a trained model's folder, all folds of which are joined, a fold of it, or a
folder) and then the folders of its test predictions; several of them, one a fold, are averaged. Both hold nnU-Net's
probabilities: nnUNetv2_train ... --val --npz, and nnUNetv2_predict ... --save_probabilities. Without test predictions
only weights and their worth are written.

Rules: average (all alike), single (the best model), inverse_error (1 / (1 - mean Dice)), search (the best weights of a
lattice). Their objective is the mean Dice of the region over all validation cases; none is left out, and a case in
which neither has a voxel counts 1. What is written is what wins in a cross-validation on these cases, or --rule.

Written to DIR: label maps, dataset.json and plans.json as nnU-Net does, weights.json, ensemble.csv (what each rule is
worth), ensemble_cases.csv.
"""

import argparse
import json
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_ext import __version__
from nnunet_ext.commands.preprocessed import references_folder
from nnunet_ext.commands.table import aligned
from nnunet_ext.ensembling import RULES, WRITTEN
from nnunet_ext.evaluation.runs import OF_CASES, VALIDATION

if TYPE_CHECKING:
    import pandas as pd

    from nnunet_ext.ensembling.members import Member
    from nnunet_ext.ensembling.run import Ensemble, Found

WEIGHTS, TABLE, CASES = "weights.json", "ensemble.csv", "ensemble_cases.csv"
LIBRARIES = ("numpy", "nnunetv2", "pandas", "scipy")
OBJECTIVE = "mean Dice of the region over all validation cases; 1 where neither mask has a voxel, no case left out"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    add = parser.add_argument
    add(
        *("-m", "--model"),
        nargs="+",
        action="append",
        type=Path,
        required=True,
        metavar=("VALIDATION", "TEST"),
        help="a model, see above; once for each",
    )
    add("-o", "--out", type=Path, required=True, metavar="DIR", help="for the ensemble")
    add("--rule", choices=RULES, help="what is written (default: what wins on the validation cases, by region)")
    add("--folds", nargs="+", default=[], metavar="N", help="of trained models (default: all that were trained)")
    add(
        "--labels",
        type=Path,
        metavar="DIR",
        help="references of the validation cases (default: the dataset's in nnUNet_preprocessed or _raw)",
    )
    add("--test-labels", type=Path, metavar="DIR", help="references of the test cases; they choose nothing")
    add("--save_probabilities", action="store_true", help="write the averaged probabilities too, as nnU-Net does")
    add("--jobs", type=int, default=1, metavar="N", help="processes (default: 1)")
    add("--overwrite", action="store_true", help="write into a folder that is not empty")


def run(args: argparse.Namespace) -> int:
    """Finds the weights, writes the ensemble and prints what it is worth."""
    _check_output(args)
    if args.jobs < 1:
        raise ValueError(f"--jobs must be at least 1, not {args.jobs}.")
    with _whole(args.out) as folder:
        ensemble = _ensemble(args, folder)
        found = ensemble.find(args.rule)
        tested = ensemble.write(found.weights, keep=args.save_probabilities)
        table = ensemble.table(found.judged, tested)
        _write(args, ensemble, found, table, ensemble.cases_table(found.judged, tested))
    print(_report(ensemble, found, table))
    return 0


@contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """Gives a folder beside; what it holds at the end takes the place of an earlier ensemble's files, the weights last.

    If the block raises, ``out`` stays as it was.
    """
    from nnunet_ext.whole import folder_aside

    with folder_aside(out) as folder:
        yield folder
        for path in _earlier(out):
            path.unlink(missing_ok=True)
        out.mkdir(parents=True, exist_ok=True)
        for path in sorted(folder.iterdir(), key=lambda path: path.name == WEIGHTS):
            path.replace(out / path.name)


def _earlier(out: Path) -> list[Path]:
    """What an ensemble wrote into a folder before: of its test cases nothing may stand beside the new ones."""
    if not (out / WEIGHTS).is_file():
        return []
    cases = set(json.loads((out / WEIGHTS).read_text(encoding="utf-8"))["test_cases"])
    mine = [path for path in out.iterdir() if path.is_file() and _case_of(path) in cases]
    return [out / WEIGHTS, *mine]


def _case_of(path: Path) -> str:
    from nnunet_ext.evaluation import reading

    return path.stem if path.suffix in (".npz", ".pkl") else reading.stem(path) if reading.is_image(path) else ""


def _check_output(args: argparse.Namespace) -> None:
    if args.out.exists() and not args.out.is_dir():
        raise ValueError(f"{args.out} is a file; give a folder with -o.")
    if args.out.resolve() in {folder.resolve() for model in args.model for folder in model}:
        raise ValueError(f"{args.out} holds a model's predictions; give another folder with -o.")
    if args.out.is_dir() and any(args.out.iterdir()) and not args.overwrite:
        raise ValueError(f"{args.out} is not empty; choose another -o, or --overwrite.")


def _ensemble(args: argparse.Namespace, folder: Path) -> "Ensemble":
    from nnunet_ext.ensembling.members import member_of, sorted_by_name
    from nnunet_ext.ensembling.run import Ensemble
    from nnunet_ext.evaluation import finding

    if len({len(model) > 1 for model in args.model}) > 1:
        raise ValueError("Some --model have test predictions and some have none; give them for all, or for none.")
    _refuse_cases(args)
    members = sorted_by_name(member_of(model[0], model[1:], args.folds) for model in args.model)
    test = finding.files(args.test_labels) if args.test_labels else {}
    if test and not members[0].test:
        raise ValueError("--test-labels are of test predictions, and no --model has any.")
    return Ensemble(members, finding.files(args.labels or _labels_of(members)), test, folder, args.jobs)


def _refuse_cases(args: argparse.Namespace) -> None:
    """Case-level results have an ensemble of their own, told with its arguments by a ValueError."""
    folders = [model[0] for model in args.model]
    places = ("", f"{VALIDATION}/", f"fold_*/{VALIDATION}/")
    if not any(next(folder.glob(f"{place}{OF_CASES}"), None) for folder in folders for place in places):
        return
    command = ["nnunet_ext", "outcomes", *map(str, folders), "-o", str(args.out), "--ensemble", "grid"]
    tests = " --test METHOD=FOLDER for each" if any(len(model) > 1 for model in args.model) else ""
    raise ValueError(f"These are case-level results, not segmentations; use {shlex.join(command)}{tests}.")


def _labels_of(members: "list[Member]") -> Path:
    """The dataset's references, by the results folder of the first model that lies in one."""
    for member in members:
        dataset = member.described.parent.name
        if re.match(r"Dataset\d+_", dataset):
            return references_folder(dataset)
    raise ValueError("Of which dataset the validation is cannot be told; name the folder of its references: --labels.")


def _write(
    args: argparse.Namespace, ensemble: "Ensemble", found: "Found", table: "pd.DataFrame", cases: "pd.DataFrame"
) -> None:
    from nnunet_ext.ensembling.members import DATASET, PLANS
    from nnunet_ext.whole import write_text

    for name in (DATASET, PLANS):
        shutil.copyfile(ensemble.members[0].described / name, ensemble.out / name)
    for name, rows in ((TABLE, table), (CASES, cases)):
        write_text(ensemble.out / name, rows.to_csv(index=False, lineterminator="\n"))
    write_text(ensemble.out / WEIGHTS, json.dumps(_facts(args, ensemble, found), indent=1) + "\n")


def _facts(args: argparse.Namespace, ensemble: "Ensemble", found: "Found") -> dict[str, Any]:
    names = [member.name for member in ensemble.members]
    given = {str(model[0]): [str(test) for test in model[1:]] for model in args.model}
    return {
        "objective": OBJECTIVE,
        "written": found.chosen,
        "weights": {
            rule: {group: dict(zip(names, own.tolist(), strict=True)) for group, own in weights.items()}
            for rule, weights in found.weights.items()
        },
        "models": {member.name: str(member.described) for member in ensemble.members},
        "folders": given,
        "validation_cases": ensemble.cases,
        "cross_validation": [[ensemble.cases[index] for index in part] for part in ensemble.parts],
        "test_cases": ensemble.test_cases,
        "command": shlex.join(["nnunet_ext", "ensemble", *sys.argv[2:]]),
        "versions": {"nnunet_ext": __version__, **{name: version(name) for name in LIBRARIES}},
    }


def _report(ensemble: "Ensemble", found: "Found", table: "pd.DataFrame") -> str:
    """The weights, the means of all rules, and what won."""
    from nnunet_ext.ensembling.judging import sentences

    lines = [f"{len(ensemble.members)} models, {len(ensemble.cases)} validation cases in {len(ensemble.parts)} parts."]
    groups = list(ensemble.outputs.channels)
    rows = [["weights", *groups]]
    for index, member in enumerate(ensemble.members):
        rows.append([member.name, *(f"{found.weights[WRITTEN][group][index]:.3f}" for group in groups)])
    lines += ["", aligned(rows), ""]
    for name, part in table.groupby("set", sort=False):
        how = "by cross-validation" if name == "validation" else "which chose nothing"
        wide = part.pivot_table(index="region", columns="rule", values="Dice", sort=False)
        cells = [[str(region), *(f"{value:.4f}" for value in row)] for region, row in wide.T.items()]
        lines += [f"mean Dice of the {name} cases, {how}", aligned([["region", *wide.columns], *cells]), ""]
    return "\n".join([*lines, *sentences(table, found.chosen, ensemble.outputs.scored)])
