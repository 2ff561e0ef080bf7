"""Evaluate segmentations against references as BraTS and nnU-Net do, and say where they disagree.

REFERENCE is a folder of segmentations, a BraTS tree, a raw dataset of nnU-Net or its number. PREDICTION is a folder of
segmentations, such as the output of nnUNetv2_predict, or a fold of a trained model, whose validation is evaluated. Each
may be a single file. No case is dropped: what is missing or does not fit is a failure with the worst values.

An interrupted evaluation goes on with the same command. The exit code is 1 if a case failed.
"""

import argparse
import math
import shlex
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_ext import __version__
from nnunet_ext.commands.preprocessed import find_dataset
from nnunet_ext.commands.table import aligned
from nnunet_ext.evaluation import roi
from nnunet_ext.evaluation.conventions import CONVENTIONS, DEFAULT

if TYPE_CHECKING:
    from nnunet_ext.evaluation.cases import Pair, Settings
    from nnunet_ext.evaluation.regions import Scheme

SEARCH = "search"
SHOWN = (
    *("Dice", "HD95_pooled", "HD95_directed", "NSD", "precision", "recall", "lesionwise_Dice", "lesionwise_HD95"),
    *roi.METRICS,
)
MOST_TOLD = 10
LIBRARIES = ("numpy", "scipy", "SimpleITK", "pandas", "connected-components-3d")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    add = parser.add_argument
    add("reference", metavar="REFERENCE", help="folder, BraTS tree, raw dataset or its number, or a file")
    add("prediction", type=Path, metavar="PREDICTION", help="folder, fold of a trained model, or a file")
    add("-o", "--out", type=Path, required=True, metavar="DIR", help="for metrics.csv, conventions.csv, summary.json")
    add("--convention", choices=CONVENTIONS, default=DEFAULT, help="what empty masks count (default: %(default)s)")
    add(
        "--edition", metavar="NAME", help="2017 to 2021, 2023, 2024, nnunet137: what labels mean, if it is not detected"
    )
    add("--prediction-edition", metavar="NAME", help="of the predictions, where it is another one")
    add("--dataset-json", type=Path, metavar="FILE", help="nnU-Net's, which says what the labels mean")
    add(
        "--cases",
        default="",
        metavar="WHICH",
        help="all, predicted, or a splits_final.json (default: of a fold, its split)",
    )
    add("--nsd", type=float, nargs="+", default=[1.0], metavar="MM", help="tolerances of the NSD (default: 1)")
    add(
        "--et-threshold",
        default="0",
        metavar="N",
        help="fewer voxels of enhancing tumour are none; 'search' chooses it",
    )
    add(
        "--search-in",
        type=Path,
        nargs="+",
        metavar="DIR",
        help="predictions of training cases for 'search' (default: the other folds)",
    )
    add("--jobs", type=int, default=1, metavar="N", help="processes (default: 1)")
    add("--overwrite", action="store_true", help="forget what an earlier evaluation left in DIR")


def run(args: argparse.Namespace) -> int:
    """Evaluates, writes the tables and prints the means; 1 if a case failed."""
    from nnunet_ext.evaluation import table

    summary = evaluated(args)
    print(report(summary))
    print(f"Written to {args.out}: {table.METRICS_FILE}, {table.CONVENTIONS_FILE}, {table.SUMMARY_FILE}.")
    return 1 if summary["failures"] else 0


def evaluated(args: argparse.Namespace) -> dict[str, Any]:
    """Evaluates, writes the tables and returns their summary.

    Raises:
        ValueError: the files cannot be told, or the options do not fit.
    """
    from tqdm import tqdm

    from nnunet_ext.evaluation import run as evaluation
    from nnunet_ext.evaluation import table

    _check_numbers(args)
    task = task_of(args)
    chosen = _et_threshold(args, task)
    if args.overwrite:
        evaluation.forget(args.out)
    records = evaluation.evaluate_all(task.pairs, task.settings, args.out, args.jobs)
    shown = tqdm(records, total=len(task.pairs), unit="case", disable=None)
    done = sorted(shown, key=lambda record: str(record["case"]))
    facts = {**chosen, **_nnunet_summary(task, done), **_provenance(args, task)}
    return table.write(args.out, done, task.settings, facts)


@dataclass
class Task:
    """What is evaluated, and how."""

    references: dict[str, Path]
    predictions: Path
    pairs: "list[Pair]"
    settings: "Settings"


def task_of(args: argparse.Namespace) -> Task:
    """The files and settings that the arguments mean; ValueError where they mean none."""
    from nnunet_ext.evaluation import finding
    from nnunet_ext.evaluation.cases import Settings

    reference = _reference(args.reference)
    prediction = finding.predictions_of(args.prediction)
    predicted = finding.files(prediction)
    references = finding.references_of(reference, predicted)
    if reference.is_file() and prediction.is_file():
        predicted = dict(zip(references, predicted.values(), strict=True))  # two files are a case whatever their names
    expected = finding.expected_cases(args.cases, prediction, predicted)
    pairs = finding.pairs_of(references, predicted, expected)
    schemes = _schemes(args, (reference, references), (prediction, predicted))
    settings = Settings(*schemes, convention=args.convention, tolerances=tuple(args.nsd))
    return Task(references, prediction, pairs, settings)


def _reference(given: str) -> Path:
    if given.isdecimal() and not Path(given).exists():
        return find_dataset("nnUNet_raw", given, "convert it")
    return Path(given)


def _schemes(
    args: argparse.Namespace, reference: tuple[Path, dict[str, Path]], prediction: tuple[Path, dict[str, Path]]
) -> "tuple[Scheme, Scheme]":
    from nnunet_ext.evaluation import finding, regions

    if args.dataset_json:
        if args.edition:
            raise ValueError("--edition and --dataset-json both say what the labels mean; give one.")
        own = regions.scheme_of_dataset(finding.read_dataset_json(args.dataset_json))
    else:
        own = regions.edition_named(args.edition) if args.edition else finding.scheme_of(*reference)
    if args.prediction_edition:
        other = regions.edition_named(args.prediction_edition)
    else:
        other = own if args.edition or args.dataset_json else finding.scheme_of(*prediction, like=own)
    if not own.brats and other != own:
        raise ValueError(
            f"The references are of {own.name}, the predictions of {other.name}; only BraTS's have equal classes."
        )
    if len(other.classes) > len(own.classes):
        raise ValueError(
            f"The predictions are of {other.name}, which has classes that {own.name} of the references lacks."
        )
    return own, other


def _check_numbers(args: argparse.Namespace) -> None:
    if args.jobs < 1:
        raise ValueError(f"--jobs must be at least 1, not {args.jobs}.")
    if not all(math.isfinite(mm) and mm >= 0 for mm in args.nsd) or len(set(args.nsd)) < len(args.nsd):
        raise ValueError(f"--nsd must be different numbers of mm from 0 on, not {' '.join(map(str, args.nsd))}.")
    if args.et_threshold != SEARCH and not args.et_threshold.isdecimal():
        raise ValueError(f"--et-threshold must be a number of voxels or {SEARCH!r}, not {args.et_threshold!r}.")
    if args.search_in and args.et_threshold != SEARCH:
        raise ValueError(f"--search-in is for --et-threshold {SEARCH} alone.")
    if args.out.exists() and not args.out.is_dir():
        raise ValueError(f"{args.out} is a file; give a folder with -o.")


def _et_threshold(args: argparse.Namespace, task: Task) -> dict[str, Any]:
    """Sets the threshold of the task's settings and says how it was chosen."""
    from dataclasses import replace

    if args.et_threshold != "0" and not task.settings.reference.brats:
        raise ValueError(f"--et-threshold is for BraTS's labels, not those of {task.settings.reference.name}.")
    if args.et_threshold != SEARCH:
        task.settings = replace(task.settings, et_threshold=int(args.et_threshold))
        return {}
    from tqdm import tqdm

    from nnunet_ext.evaluation import finding, threshold

    folders = args.search_in or _other_folds(task.predictions)
    pairs = [pair for folder in folders for pair in _training_pairs(task, finding.predictions_of(folder))]
    threshold.check((pair.case for pair in pairs), (pair.case for pair in task.pairs))
    counted = list(tqdm(threshold.count(pairs, task.settings), "ET threshold", len(pairs), unit="case", disable=None))
    best, means = threshold.best(counted)
    task.settings = replace(task.settings, et_threshold=best)
    return {"et_threshold_search": {"cases": sorted(pair.case for pair in pairs), "mean_Dice": means}}


def _other_folds(predictions: Path) -> list[Path]:
    own = predictions.parent
    found = sorted(path for path in own.parent.glob("fold_*/validation") if path.parent != own)
    if predictions.name != "validation" or not found:
        raise ValueError(
            f"--et-threshold {SEARCH} chooses it on other folds' validation, and {predictions} has none beside it; name"
            " predictions of training cases with --search-in."
        )
    return found


def _training_pairs(task: Task, folder: Path) -> "list[Pair]":
    from nnunet_ext.evaluation import finding

    predicted = finding.files(folder)
    return finding.pairs_of(task.references, predicted, sorted(predicted))


def _nnunet_summary(task: Task, records: list[dict[str, Any]]) -> dict[str, Any]:
    """How far Dice is from that in nnU-Net's own summary.json beside the predictions, where there is one."""
    from nnunet_ext.evaluation import agreement

    found = agreement.with_nnunet(task.predictions, records, task.settings)
    return {"nnunet_summary": found} if found else {}


def _provenance(args: argparse.Namespace, task: Task) -> dict[str, Any]:
    return {
        "reference_folder": str(args.reference),
        "prediction_folder": str(task.predictions),
        "command": shlex.join(["nnunet_ext", "evaluate", *sys.argv[2:]]),
        "versions": {"nnunet_ext": __version__, **{name: version(name) for name in LIBRARIES}},
    }


def report(summary: dict[str, Any]) -> str:
    """The means as a table, the failures, and where other conventions say something else."""
    regions = summary["metrics"]
    names = [m for m in next(iter(regions.values())) if m in SHOWN or m.startswith("NSD")]
    rows = [["region", *names], *([region, *(_cell(entry[m]) for m in names)] for region, entry in regions.items())]
    edition = summary["reference"]["name"]
    head = f"{summary['cases']} cases, labels of {edition}, convention {summary['convention']}; mean +- SD, HD95 in mm"
    lines = [head, "", aligned(rows), ""]
    if summary["et_threshold"]:
        lines.append(
            f"Predictions with fewer than {summary['et_threshold']} voxels of enhancing tumour were taken to have none."
        )
    failures = summary["failures"]
    if failures:
        lines.append(f"{len(failures)} cases failed and count with the worst values:")
        lines += [f"  {case}: {why}" for case, why in list(failures.items())[:MOST_TOLD]]
        lines += [f"  and {len(failures) - MOST_TOLD} more in summary.json"] if len(failures) > MOST_TOLD else []
    lines += [f"{case}: {note}" for case, note in list(summary["notes"].items())[:MOST_TOLD]]
    lines += _disagreements(summary)
    return "\n".join(lines)


def _disagreements(summary: dict[str, Any]) -> list[str]:
    own, lines = summary["convention"], []
    for other, metrics in summary["disagreements"].items():
        for metric in ("Dice", "lesionwise_Dice"):
            if metric in metrics:
                found = metrics[metric]
                told = f"{found['rows']} values differ, most in {found['case']} {found['region']}"
                lines.append(
                    f"{other}, {metric}: {told}: {_number(found[other])} where {own} has {_number(found[own])}"
                )
    agreement = summary.get("nnunet_summary")
    if agreement:
        told = f"{agreement['values']} Dice of {agreement['cases']} cases, the largest difference"
        lines.append(f"nnU-Net's summary.json: {told} {_number(agreement['largest_difference'])}")
    return lines


def _cell(entry: dict[str, Any]) -> str:
    left = f" ({entry['n']})" if entry["left_out"] else ""
    return (
        f"{_number(entry['mean'])} +- {_number(entry['sd'])}{left}" if entry["n"] > 1 else _number(entry["mean"]) + left
    )


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4g}"
