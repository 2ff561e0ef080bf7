"""Case-level results of trainings: metrics per fold, intervals, baselines beside each, and what may be said.

RESULTS are nnU-Net's results folders: nnUNet_results, a dataset's folder in it, folders of trained models or of folds
whose validation wrote case_metrics.csv. Methods are told by trainer, plans and configuration; trainers that differ in
`_seed<N>` only are seeds of one method. Covariates come from targets.csv and targets.json of the dataset.

Written to DIR: outcomes_summary.csv, outcomes_folds.csv, outcomes_gains.csv, outcomes_cases.csv, outcomes_ranking.csv,
runs.csv, a picture for each column, outcomes.html (opens without a network); with --ensemble, --combine or --nested
outcomes_weights.csv, with --combine outcomes_combinations.csv, with --nested outcomes_nested.csv. The exit code is 1 if
trainings were left out.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from nnunet_ext.evaluation.runs import Run
    from nnunet_ext.outcomes.ensembles import Maker
    from nnunet_ext.outcomes.gathering import Source, Surroundings
    from nnunet_ext.outcomes.reporting import Judged

HOWS = ("grid", "inverse-error")  # of combining.METHODS, which needs numpy
NO_COVARIATES = "none"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    add = parser.add_argument
    add("results", type=Path, nargs="+", metavar="RESULTS", help="results folders, see above")
    add("-o", "--out", type=Path, required=True, metavar="DIR", help="for tables, pictures and the page")
    add("--targets", type=Path, metavar="DIR", help="folder of targets.csv (default: the model's or the dataset's)")
    add(
        "--covariates",
        metavar="NAMES",
        help="baselines: names with commas, or none (default: all that targets.json declares)",
    )
    add(
        "--test",
        action="append",
        default=[],
        metavar="METHOD=DIR",
        help="external test: a method's case_metrics.csv of cases that nothing was trained or tuned on; once a seed",
    )
    add("--ensemble", choices=HOWS, help="also report an ensemble, weighted on other folds' validation only")
    add("--best", type=int, default=5, metavar="K", help="methods in the ensemble, or of a group, at most (default: 5)")
    add(
        "--combine",
        nargs=2,
        metavar=("GROUP", "OTHER"),
        help="pair the best of two groups of methods, by patterns of names such as 'CaseResNet*'; weights as by "
        "--ensemble (default: grid); the best pair is told and tested; trainings may be of two datasets",
    )
    add("--nested", action="store_true", help="also report the best method as the other folds choose it")


def run(args: argparse.Namespace) -> int:
    """Gathers, judges, writes, and prints what may be said."""
    from nnunet_ext.evaluation import runs
    from nnunet_ext.outcomes import gathering
    from nnunet_ext.outcomes.results import TABLE_FILE, read

    if args.best < 1:
        raise ValueError(f"--best is {args.best}; an ensemble has 1 method or more.")
    found = runs.find_runs(args.results, TABLE_FILE, several=bool(args.combine))
    _refuse_nothing(found.runs, found.left_out)
    around = _surroundings(args, found.runs[0])
    tables = {run.folder: gathering.by_patient(read(run.predictions), around.targets) for run in found.runs}
    lacking = gathering.incomplete(found.runs, tables, around)
    _refuse_nothing(found.runs, lacking)
    kept = runs.complete([run for run in found.runs if str(run.folder) not in lacking])
    sources = [gathering.source_of(run, tables[run.folder]) for run in kept.runs]
    judged, weights = _judged(args, sources, around)
    args.out.mkdir(parents=True, exist_ok=True)
    _write(args.out, judged, weights, kept.runs)
    print("\n".join(line for part in judged for verdict in part.verdicts for line in (*verdict, "")).rstrip())
    left_out = {**found.left_out, **lacking, **kept.left_out}
    for folder, reason in left_out.items():
        print(f"{folder} is left out: {reason}.", file=sys.stderr)
    return int(bool(left_out))


def _refuse_nothing(runs: "Sequence[Run]", left_out: Mapping[str, str]) -> None:
    """Refuses, by a ValueError with the reasons, if all trainings are left out."""
    if all(str(run.folder) in left_out for run in runs):
        told = "; ".join(f"{folder}: {reason}" for folder, reason in left_out.items())
        raise ValueError(f"No case-level training is finished: {told}.")


def _surroundings(args: argparse.Namespace, one: "Run") -> "Surroundings":
    """Targets, covariates and splits of the dataset, where they are to be found."""
    from nnunet_ext.outcomes import gathering
    from nnunet_ext.outcomes.columns import SCHEMA_FILE
    from nnunet_ext.outcomes.targets import load_targets

    folders = [args.targets] if args.targets else [one.folder.parent, *_dataset_folders(one.dataset)]
    home = next((folder for folder in folders if args.targets or (folder / SCHEMA_FILE).is_file()), None)
    targets = load_targets(home) if home else None
    splits = next((path for f in folders if (path := f / gathering.SPLITS_FILE).is_file()), Path("nowhere"))
    declared = tuple(targets.covariates) if targets else ()
    names = declared if args.covariates is None else named_covariates(args.covariates, declared)
    return gathering.with_splits(gathering.Surroundings(targets, names), splits)


def _dataset_folders(dataset: str) -> list[Path]:
    variables = ("nnUNet_preprocessed", "nnUNet_raw")
    return [Path(os.environ[name], dataset) for name in variables if os.environ.get(name)]


def named_covariates(words: str, declared: tuple[str, ...]) -> tuple[str, ...]:
    """The covariates that --covariates names; ValueError for one that is not declared."""
    names = tuple(word.strip() for word in words.split(",") if word.strip())
    if names == (NO_COVARIATES,):
        return ()
    if unknown := [name for name in names if name not in declared]:
        raise ValueError(
            f"{unknown[0]} is no covariate of targets.json, which declares {', '.join(declared) or 'none'}."
        )
    return names


def _judged(
    args: argparse.Namespace, sources: "list[Source]", around: "Surroundings"
) -> "tuple[list[Judged], pd.DataFrame]":
    """Every column in cross-validation, and in the external test where there is one."""
    from nnunet_ext.outcomes import external, gathering, reporting

    tests = external.admitted(_test_sources(args.test, sources), sources, around)
    columns = gathering.columns_of([*sources, *tests])
    makers = _makers(args, list(dict.fromkeys(source.method for source in sources)))
    made = [reporting.judge(column, sources, tests, around, makers, len(columns)) for column in columns.values()]
    return [part for parts, _ in made for part in parts], reporting.weights_table([w for _, ws in made for w in ws])


def _makers(args: argparse.Namespace, methods: list[str]) -> "list[Maker]":
    """What is made of the methods, as the options ask."""
    from nnunet_ext.outcomes.ensembles import Choice, Recipe
    from nnunet_ext.outcomes.pairs import Pairs, groups_of

    found: list[Maker] = [Choice()] if args.nested else []
    if args.ensemble:
        found.append(Recipe(args.best, args.ensemble))
    if args.combine:
        found.append(Pairs(groups_of(args.combine, methods), args.best, args.ensemble or HOWS[0]))
    return found


def _test_sources(words: list[str], sources: "list[Source]") -> "list[Source]":
    """What --test names."""
    from nnunet_ext.outcomes.gathering import Source, has_truth
    from nnunet_ext.outcomes.results import TEST, read

    methods = {source.method for source in sources}
    found: list[Source] = []
    for word in words:
        method, _, folder = word.partition("=")
        if not folder or method not in methods:
            raise ValueError(f"--test {word}: expected METHOD=DIR with one of {', '.join(sorted(methods))}.")
        seed = sum(one.method == method for one in found)
        found.append(Source(method, TEST, seed, folder, read(Path(folder))))
    if found and (missing := methods - {one.method for one in found}):
        raise ValueError(f"--test is missing for {min(missing)}; test all methods on the same cases, or name fewer.")
    if found and not any(has_truth(column, one) for one in found for column in one.results.columns.values()):
        raise ValueError(f"No case of {found[0].where} has a known target; predict them with --targets.")
    return found


def _write(out: Path, judged: "list[Judged]", weights: "pd.DataFrame", runs: "tuple[Run, ...]") -> None:
    from tqdm import tqdm

    from nnunet_ext.evaluation.table import whole
    from nnunet_ext.outcomes import charts, page, reporting

    table = reporting.runs_table(runs)
    tables = {**reporting.tables(judged), **reporting.further_tables(judged)}
    tables |= {"outcomes_weights.csv": weights, "runs.csv": table}
    for name, content in tables.items():
        if len(content):
            whole(out / name, content.to_csv(index=False, lineterminator="\n"))
    parts = []
    for part in tqdm(judged, "pictures", unit="column", disable=None):
        picture = out / f"outcomes_{part.file_name}.png"
        charts.column_picture(part.drawn, part.methods, part.baselines, picture)
        parts.append(reporting.page_part(part, picture))
    page.write_page(out / page.NAME, f"{runs[0].dataset}: case-level outcomes", reporting.facts(judged), parts, table)
