"""Compare trainings: every method on the same cases, with what may be said about their difference and what not.

RESULTS are nnU-Net's results folders, stock or ours: nnUNet_results, a dataset's folder in it, or folders of trained
models. Methods are told by trainer, plans and configuration; trainers that differ in `_seed<N>` only are seeds of one
method. The final validation of each fold is evaluated (and kept: the same command goes on where it stopped).

Written to DIR: integrated_experiment_results.csv, all_epochs_results.csv, model_comparison.csv, comparisons.csv,
ranking.csv, stage_wise_pam_results.csv, runs.csv, learning_curves.png, model_comparison_chart.png,
parameter_efficiency.png, ranking.png, interactive_3d_analysis.html (opens without a network) and overlays/, the worst
cases first. Needs the extra `report` (pip install "nnunet_ext[report]"). The exit code is 1
if trainings were left out or cases failed, or if --verify finds another value.

Case-level trainings are judged as by nnunet_ext outcomes RESULTS -o DIR, whose files are written then.
"""

import argparse
import math
import os
import shlex
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_ext.commands.preprocessed import references_folder
from nnunet_ext.commands.table import aligned
from nnunet_ext.evaluation.conventions import CONVENTIONS, DEFAULT

if TYPE_CHECKING:
    import pandas as pd

    from nnunet_ext.evaluation.comparison import Evaluated
    from nnunet_ext.evaluation.ranking import Ranking
    from nnunet_ext.evaluation.runs import Run

INTEGRATED = "integrated_experiment_results.csv"
EPOCHS = "all_epochs_results.csv"
MODELS = "model_comparison.csv"
STAGES = "stage_wise_pam_results.csv"
COMPARISONS, RANKING, RUNS = "comparisons.csv", "ranking.csv", "runs.csv"
EVALUATIONS = "evaluations"
EXTRA = ("statsmodels", "scikit_posthocs", "plotly", "skimage", "fast_simplification")  # of the extra `report`


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    add = parser.add_argument
    add("results", type=Path, nargs="+", metavar="RESULTS", help="results folders, see above")
    add("-o", "--out", type=Path, required=True, metavar="DIR", help="for the tables")
    add("--reference", metavar="METHOD", help="compare the others with this one only; a trainer's name will do")
    add("--convention", choices=[c for c in CONVENTIONS if c != "nnunet"], default=DEFAULT, help="see evaluate")
    add(
        "--labels",
        metavar="DIR",
        help="reference segmentations (default: the dataset's in nnUNet_preprocessed or _raw)",
    )
    add("--jobs", type=int, default=1, metavar="N", help="processes that evaluate (default: 1)")
    add("--no-cost", action="store_true", help="leave out parameters, MACs and memory")
    add("--latency", type=int, default=0, metavar="N", help="measure the latency of one patch here, N times")
    add("--worst", type=int, default=12, metavar="N", help="worst cases that are drawn (default: 12)")
    add("--no-report", action="store_true", help="leave out interactive_3d_analysis.html and the overlays")
    add("--verify", action="store_true", help="recompute a random tenth of the values in DIR from the predictions")


def run(args: argparse.Namespace) -> int:
    """Evaluates, compares, writes the tables and prints what may be said."""
    if missing := [name for name in EXTRA if find_spec(name) is None]:
        raise ValueError(f'{", ".join(missing)} is not installed; pip install "nnunet_ext[report]".')
    if args.verify:
        from nnunet_ext.commands.verify import verify

        return verify(args.out)
    from nnunet_ext.evaluation import comparable, comparison, runs
    from nnunet_ext.evaluation.table import read_summary

    _check_options(args)

    found = runs.find_runs(args.results)
    if not found.runs and _are_of_cases(found.left_out):
        return _outcomes(args)
    if not found.runs:
        raise ValueError(f"No training is finished: {_told(found.left_out)}.")
    kept = runs.complete(found.runs)
    comparable.check(kept.runs)
    reference = _method_named(args.reference, kept.runs) if args.reference else None
    evaluated = _evaluate(kept.runs, args)
    table = comparison.long_table(evaluated)
    written, ranking = _tables(evaluated, table, reference, args)
    _write(args.out, written)
    _draw(args.out, written, ranking)
    if not args.no_report:
        _report_page(args, evaluated, written)
    print(_report(written))
    left_out = {**found.left_out, **kept.left_out}
    for folder, reason in left_out.items():
        print(f"{folder} is left out: {reason}.", file=sys.stderr)
    failed = sorted({case for one in evaluated for case in read_summary(args.out / EVALUATIONS / one.name)["failures"]})
    if failed:
        print(f"{len(failed)} cases failed in some training and count with the worst values: {', '.join(failed[:10])}")
    return int(bool(left_out or failed))


def _are_of_cases(left_out: "Mapping[str, str]") -> bool:
    """Whether one of the trainings left out is finished and predicts case-level targets."""
    from nnunet_ext.evaluation.runs import FINAL, OF_CASES, VALIDATION

    folders = [Path(folder) for folder in left_out]
    return any((each / FINAL).is_file() and (each / VALIDATION / OF_CASES).is_file() for each in folders)


def _outcomes(args: argparse.Namespace) -> int:
    """Hands over to the command for case-level results, whose options are others.

    Raises:
        ValueError: an option means nothing for them.
    """
    from nnunet_ext.cli import main

    words = ["outcomes", *map(str, args.results), "-o", str(args.out)]
    command = shlex.join(["nnunet_ext", *words])
    if given := [option for option in ("reference", "labels") if getattr(args, option)]:
        raise ValueError(f"These are case-level results, for which --{given[0]} means nothing; use {command}.")
    print(f"These are case-level results; what follows is that of {command}", file=sys.stderr)
    return main(words)


def _check_options(args: argparse.Namespace) -> None:
    for option, least in (("jobs", 1), ("latency", 0), ("worst", 0)):
        if getattr(args, option) < least:
            raise ValueError(f"--{option} must be at least {least}, not {getattr(args, option)}.")
    if args.out.exists() and not args.out.is_dir():
        raise ValueError(f"{args.out} is a file; give a folder with -o.")


def _told(left_out: Any) -> str:
    return "; ".join(f"{folder}: {reason}" for folder, reason in left_out.items())


def _method_named(name: str, runs: "tuple[Run, ...]") -> str:
    """The method that a method's or a trainer's name means."""
    for run in runs:
        if name in (run.method, run.trainer, run.trainer.removeprefix("nnUNetTrainer_")):
            return run.method
    methods = ", ".join(dict.fromkeys(run.method for run in runs))
    raise ValueError(f"The reference {name} is not among the methods: {methods}.")


def name_of(run: "Run") -> str:
    """Of a run in the tables."""
    return f"{run.folder.parent.name}/{run.folder.name}"


def _evaluate(runs: "tuple[Run, ...]", args: argparse.Namespace) -> "list[Evaluated]":
    """Every run's validation, evaluated into a folder of its own."""
    from tqdm import tqdm

    from nnunet_ext.commands.evaluate import evaluated
    from nnunet_ext.evaluation.comparison import Evaluated
    from nnunet_ext.evaluation.table import read_metrics

    done = []
    for run in tqdm(runs, "evaluating", unit="training", disable=None):
        out = args.out / EVALUATIONS / name_of(run)
        labels = args.labels or str(references_folder(run.dataset))
        evaluated(evaluation_of(run.folder, out, convention=args.convention, labels=labels, jobs=args.jobs))
        done.append(Evaluated(run, name_of(run), read_metrics(out)))
    return done


def evaluation_of(fold: Path, out: Path, *, convention: str, labels: str, jobs: int = 1) -> argparse.Namespace:
    """The arguments with which `nnunet_ext evaluate` does it."""
    from nnunet_ext.commands import evaluate

    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    # the trained model's own dataset.json: a detector's labels are not the dataset's
    dataset = str(fold.parent / "dataset.json")
    words = [labels, str(fold), "-o", str(out), "--convention", convention, "--dataset-json", dataset]
    return parser.parse_args([*words, "--jobs", str(jobs)])


def _tables(
    evaluated: "list[Evaluated]", table: "pd.DataFrame", reference: str | None, args: argparse.Namespace
) -> "tuple[dict[str, pd.DataFrame], Ranking]":
    """The tables by the names of their files, and the ranking that one of them and a picture show."""
    import pandas as pd

    from nnunet_ext.evaluation import comparison
    from nnunet_ext.evaluation.provenance import provenance
    from nnunet_ext.evaluation.table import read_summary

    preprocessed = os.environ.get("nnUNet_preprocessed")
    folder = Path(preprocessed, evaluated[0].run.dataset) if preprocessed else None
    rows = [provenance(one.run, one.name, read_summary(args.out / EVALUATIONS / one.name), folder) for one in evaluated]
    parts, regions = comparison.parts_of(table), comparison.regions_of(table)
    models, ranking = comparison.method_table(parts), comparison.ranking(parts, regions)
    stages = pd.DataFrame()
    if not args.no_cost:
        from nnunet_ext.commands.cost_of_runs import costs

        cost, stages = costs([one.run for one in evaluated], args.latency)
        models = models.merge(cost, on="method", how="left")
    several = table["method"].nunique() > 1
    tables = {
        INTEGRATED: table,
        EPOCHS: comparison.epochs_table(evaluated),
        MODELS: models,
        COMPARISONS: comparison.verdicts(parts, regions, reference) if several else pd.DataFrame(),
        RANKING: comparison.ranking_table(ranking),
        STAGES: stages,
        RUNS: pd.DataFrame(rows),
    }
    return tables, ranking


def _write(out: Path, tables: "dict[str, pd.DataFrame]") -> None:
    from nnunet_ext.whole import write_text

    for name, table in tables.items():
        if table.columns.size:
            write_text(out / name, table.to_csv(index=False, lineterminator="\n"))


def _draw(out: Path, tables: "dict[str, pd.DataFrame]", ranking: "Ranking") -> None:
    """The pictures; one that has nothing to show is not made."""
    from nnunet_ext.evaluation import charts, comparison

    models = tables[MODELS]
    regions = comparison.regions_of(models)
    if len(tables[EPOCHS]):
        charts.learning_curves(tables[EPOCHS], out / "learning_curves.png")
    charts.model_comparison(models, out / "model_comparison_chart.png", regions)
    if "parameters" in models:
        charts.parameter_efficiency(models, out / "parameter_efficiency.png", regions)
    if len(tables[COMPARISONS]):
        charts.critical_difference(ranking, tables[COMPARISONS], out / "ranking.png")


def _report_page(args: argparse.Namespace, evaluated: "list[Evaluated]", tables: "dict[str, pd.DataFrame]") -> None:
    from nnunet_ext.commands.report_page import write_report
    from nnunet_ext.evaluation.comparison import regions_of

    names = {"results": INTEGRATED, "models": MODELS, "comparisons": COMPARISONS, "ranking": RANKING, "epochs": EPOCHS}
    parts = {name: tables[file] for name, file in {**names, "runs": RUNS}.items()}
    regions = regions_of(tables[MODELS])
    references = Path(args.labels) if args.labels else references_folder(evaluated[0].run.dataset)
    write_report(args.out, evaluated, parts, regions, references, args.worst)


def _report(tables: "dict[str, pd.DataFrame]") -> str:
    """Means with intervals, the ranking, and what may be said."""
    from nnunet_ext.evaluation.comparison import COMPARED, regions_of, sentences

    models = tables[MODELS]
    shown = models[models["metric"].isin(COMPARED) & models["region"].isin(regions_of(models))]
    columns = [(region, metric) for region, metric in shown[["region", "metric"]].drop_duplicates().to_numpy()]
    rows = [["method", *(f"{region} {metric}" for region, metric in columns)]]
    for method, group in shown.groupby("method", sort=False):
        cells = group.set_index(["region", "metric"])
        rows.append([str(method), *(_cell(cells.loc[column]) for column in columns)])
    first = models.iloc[0]
    head = f"{first['seeds']} seeds, {first['folds']} folds, {first['cases']} cases; mean (95 % interval)"
    ranks = [f"  {row.mean_rank:.2f}  {row.method} (first in {row.first:.0%})" for row in tables[RANKING].itertuples()]
    said = sentences(tables[COMPARISONS])
    return "\n".join([head, "", aligned(rows), "", "mean rank over cases, regions and metrics:", *ranks, "", *said])


def _cell(row: Any) -> str:
    if math.isnan(row["low"]):  # None in the table
        return f"{row['mean']:.3f}"
    return f"{row['mean']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
