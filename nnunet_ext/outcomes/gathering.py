"""From the folders of case-level trainings to folds with baselines, of which all that is reported is computed."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nnunet_ext.evaluation.json_files import read_json
from nnunet_ext.evaluation.runs import Run
from nnunet_ext.outcomes import baselines, standardising
from nnunet_ext.outcomes.baselines import Known
from nnunet_ext.outcomes.cases import Predictions
from nnunet_ext.outcomes.columns import Column, Covariate
from nnunet_ext.outcomes.honest import Fold, refuse_shared_patients
from nnunet_ext.outcomes.results import TEST, Results, predictions_of
from nnunet_ext.outcomes.sentences import listed
from nnunet_ext.outcomes.targets import Targets
from nnunet_ext.trainers.checkpoints import BEST

SPLITS_FILE = "splits_final.json"
REMEDY = "restore that of the trainings, or name another folder by --targets"


@dataclass(frozen=True)
class Source:
    """The results of one training, or of one prediction of an external test.

    Attributes:
        method: whose.
        fold: as nnU-Net numbers it, or ``test``.
        seed: orders the trainings of a fold; None before all.
        where: told in messages.
        results: read and checked.
        unnamed: cases of an external test of whose patients nothing is known.
    """

    method: str
    fold: str
    seed: int | None
    where: str
    results: Results
    unnamed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Surroundings:
    """What is known beside the predictions.

    Attributes:
        targets: of the dataset; None where there are none, so that only constants are baselines.
        covariates: that are baselines, a subset of the targets'.
        training: fold -> its training cases by ``splits_final.json``; empty where there is none. Of ``test`` those of
            all networks that predicted the external test.
        validated: fold -> its validation cases, likewise.
    """

    targets: Targets | None = None
    covariates: tuple[str, ...] = ()
    training: Mapping[str, tuple[str, ...]] | None = None
    validated: Mapping[str, tuple[str, ...]] | None = None


def source_of(run: Run, results: Results) -> Source:
    """Of a training's fold.

    Raises:
        ValueError: it was validated on the cases it was trained on, or the file is another fold's.
    """
    if run.fold == "all":
        raise ValueError(f"{run.folder} was validated on the cases it was trained on; name folds with a number.")
    others = sorted(set(results.table["fold"]) - {run.fold})
    if others:
        raise ValueError(f"{run.predictions} holds rows of fold {others[0]}; validate fold {run.fold} again.")
    return Source(run.method, run.fold, run.seed, str(run.predictions), results)


def by_patient(results: Results, targets: Targets | None) -> Results:
    """The results with the patients that the targets name."""
    if targets is None:
        return results
    patients = results.table["case"].map(targets.groups).fillna(results.table["patient"])
    return replace(results, table=results.table.assign(patient=patients))


def columns_of(sources: Sequence[Source]) -> dict[str, Column]:
    """The columns, if all sources declare the same.

    Raises:
        ValueError: they do not.
    """
    first = sources[0]
    for other in sources[1:]:
        if dict(other.results.columns) != dict(first.results.columns):
            both = (
                f"{s.where}: {', '.join(f'{c.name} ({c.kind})' for c in s.results.columns.values())}"
                for s in (first, other)
            )
            raise ValueError(
                f"The trainings predict different columns or levels ({'; '.join(both)}); name those of one."
            )
    return dict(first.results.columns)


def folds_of(column: Column, sources: Sequence[Source]) -> list[Fold]:
    """The folds of one column without baselines; cases without truth are left out.

    Raises:
        ValueError: trainings of a fold differ in their cases, patients or truth, no case of a fold has a truth, or a
            case or a patient is in two folds.
    """
    by_fold: dict[str, dict[str, list[Source]]] = defaultdict(lambda: defaultdict(list))
    for source in sources:
        by_fold[source.fold][source.method].append(source)
    order = sorted(by_fold.items(), key=lambda f: (len(f[0]), f[0]))
    folds = [_fold(column, name, methods) for name, methods in order]
    refuse_shared_patients(folds)
    return folds


def _fold(column: Column, name: str, methods: Mapping[str, Sequence[Source]]) -> Fold:
    ordered = {m: sorted(s, key=lambda s: (s.seed is not None, s.seed or 0)) for m, s in methods.items()}
    first = next(iter(ordered.values()))[0]
    rows = first.results.of(column.name)
    rows = rows[rows["truth"] != ""].sort_index()
    if rows.empty:
        raise ValueError(f"No case of fold {name} has a truth of {column.name} ({first.where}).")
    told = ["case", "patient", "truth", "censored"]
    found: dict[str, tuple[Predictions, ...]] = {}
    for method, runs in ordered.items():
        tables = [run.results.of(column.name) for run in runs]
        kept = [table[table["truth"] != ""].sort_index() for table in tables]
        for run, table in zip(runs, kept, strict=True):
            if not table[told].equals(rows[told]):
                remedy = (
                    "predict the same images with the same"
                    if name == TEST
                    else "train all methods on the same splits and"
                )
                raise ValueError(
                    f"{first.where} and {run.where} differ in fold {name}: other cases, patients or {column.name}; "
                    f"{remedy} targets."
                )
        found[method] = tuple(predictions_of(column, table) for table in kept)
    return Fold(name, tuple(rows["case"]), tuple(rows["patient"]), found)


def incomplete(runs: Sequence[Run], tables: Mapping[Path, Results], around: Surroundings) -> dict[str, str]:
    """Folders of the folds whose table lacks validation cases, with the reason in a clause.

    Args:
        runs: whose folds :func:`source_of` checks.
        tables: of each run's folder.
        around: the folds that are known.
    """
    expected = around.validated or {}
    found = {str(run.folder): _lacking_cases(run, tables[run.folder], expected.get(run.fold, ())) for run in runs}
    return {
        folder: f"its case_metrics.csv lacks {listed(cases)} that {SPLITS_FILE} has in the fold's validation; validate "
        "again, or name the folder of the splits that it was trained by with --targets"
        for folder, cases in found.items()
        if cases
    }


def _lacking_cases(run: Run, results: Results, expected: Sequence[str]) -> list[str]:
    """Those that have no row of some column; none of another fold's table, which :func:`source_of` refuses."""
    if set(results.table["fold"]) != {run.fold}:
        return []
    return sorted({case for name in results.columns for case in set(expected) - set(results.of(name).index)})


def chosen_where_judged(sources: Sequence[Source]) -> dict[str, list[str]]:
    """Method -> a sentence, where weights were chosen by the validation cases on which they are judged."""
    found: dict[str, list[str]] = defaultdict(list)
    for source in sources:
        if source.results.facts.get("checkpoint") == BEST:
            found[source.method].append(source.fold if source.seed is None else f"{source.fold} (seed {source.seed})")
    return {
        method: [
            f"Validated with {BEST} in fold{'s' * (len(folds) > 1)} {', '.join(folds)}: these weights were chosen on "
            "the very cases on which they are judged here."
        ]
        for method, folds in found.items()
    }


def has_truth(column: Column, source: Source) -> bool:
    """Whether one of its cases has a truth of the column."""
    return bool((source.results.of(column.name)["truth"] != "").any())


def without_truth(column: Column, sources: Sequence[Source]) -> tuple[str, ...]:
    """Cases of the column that no metric can count."""
    tables = (source.results.of(column.name) for source in sources)
    return tuple(sorted({case for table in tables for case in table.index[table["truth"] == ""]}))


def with_baselines(
    column: Column, folds: Sequence[Fold], around: Surroundings, trained_on: Sequence[Fold] = ()
) -> tuple[list[Fold], list[str]]:
    """The folds with the baselines among their methods, and the baselines' names.

    Args:
        column: to be predicted.
        folds: to be tested.
        around: what is known beside.
        trained_on: folds whose cases the external test's methods were trained on.

    Raises:
        ValueError: a fold's training cases are not known.
    """
    known = {**_truths(column, around), **_truths_of([*folds, *trained_on])}
    made, names = [], []
    for fold in folds:
        cases = _training_cases(column, fold, folds, around, trained_on, known)
        found = dict(_baselines(column, fold, cases, known, around))
        made.append(replace(fold, methods={**fold.methods, **{name: (p,) for name, p in found.items()}}))
        names = list(found)
    return made, names


def without_missing(
    column: Column, folds: Sequence[Fold], around: Surroundings, trained_on: Sequence[Fold] = ()
) -> tuple[Surroundings, list[str]]:
    """Without the covariates that cannot be a baseline, for cases of the column lack them, and a sentence for each.

    Args and errors are those of :func:`with_baselines`.
    """
    if around.targets is None or not around.covariates:
        return around, []
    known = {**_truths(column, around), **_truths_of([*folds, *trained_on])}
    parts = [(_training_cases(column, fold, folds, around, trained_on, known), fold.cases) for fold in folds]
    lacking = {name: _lacking(around.targets, name, parts) for name in around.covariates}
    told = [
        f"There is no baseline with {name}, for {listed(cases)} without a value of it in targets.csv; fill the cells, "
        f"or add the cases' rows."
        for name, cases in lacking.items()
        if cases
    ]
    return replace(around, covariates=tuple(name for name, cases in lacking.items() if not cases)), told


def _lacking(targets: Targets, name: str, parts: Sequence[tuple[Sequence[str], Sequence[str]]]) -> list[str]:
    """Cases for which a covariate has no feature: not those whose empty cells its declaration fills."""
    cells = {case: row.get(name, "") for case, row in targets.rows.items()}
    refused = targets.covariates[name].missing == "refuse"
    found: set[str] = set()
    for training, tested in parts:
        none_known = not any(cells.get(case) for case in training)
        found |= {c for c in (*training, *tested) if not cells.get(c) and (refused or none_known or c not in cells)}
    return sorted(found)


def _baselines(
    column: Column, fold: Fold, cases: Sequence[str], known: Mapping[str, tuple[float, bool]], around: Surroundings
) -> Iterator[tuple[str, Predictions]]:
    training = Known(np.array([known[c][0] for c in cases]), np.array([known[c][1] for c in cases], bool))
    test = next(iter(fold.methods.values()))[0]
    yield from baselines.constants(column, training, test).items()
    if around.targets is None or not around.covariates:
        return
    declared = [around.targets.covariates[name] for name in around.covariates]
    sets = [[one] for one in declared] + ([declared] if len(declared) > 1 else [])
    for chosen in sets:
        features, test_features = (_features(chosen, around.targets, cases, of) for of in (cases, fold.cases))
        found = baselines.from_covariates(column, training, features, test, test_features)
        yield " + ".join(covariate.name for covariate in chosen), found


def _features(
    covariates: Sequence[Covariate], targets: Targets, training: Sequence[str], cases: Sequence[str]
) -> np.ndarray:
    """(n, d) of cases, standardised by the training cases."""
    standard = standardising.fit(covariates, [targets.row(case) for case in training])
    return np.array([standard.of(targets.row(case)) for case in cases])


def _training_cases(
    column: Column,
    fold: Fold,
    folds: Sequence[Fold],
    around: Surroundings,
    trained_on: Sequence[Fold],
    known: Mapping[str, tuple[float, bool]],
) -> list[str]:
    """Cases with a truth on which the networks of a fold, or those of the external test, were trained."""
    others = trained_on if fold.name == TEST else [other for other in folds if other is not fold]
    by_splits = (around.training or {}).get(fold.name)
    cases = [c for c in (by_splits or (c for other in others for c in other.cases)) if c in known]
    if shared := set(cases) & set(fold.cases):
        raise ValueError(
            f"{SPLITS_FILE} trains fold {fold.name} on {min(shared)}, which it validates; use the trainings' splits."
        )
    if not cases:
        raise ValueError(
            f"The baselines of {column.name} need the training cases of fold {fold.name}: name the other folds as "
            f"well, or the folder of targets.csv and {SPLITS_FILE} by --targets."
        )
    return cases


def _truths(column: Column, around: Surroundings) -> dict[str, tuple[float, bool]]:
    targets = around.targets
    if targets is None or column.name not in targets.columns:
        return {}
    cases = targets.known(column.name, targets.training_cases)
    return {case: (targets.encoded(column.name, case), not targets.observed(column.name, case)) for case in cases}


def _truths_of(folds: Sequence[Fold]) -> dict[str, tuple[float, bool]]:
    found: dict[str, tuple[float, bool]] = {}
    for fold in folds:
        one = next(iter(fold.methods.values()))[0]
        found.update(
            zip(fold.cases, zip(one.truth.tolist(), one.censored.astype(bool).tolist(), strict=True), strict=True)
        )
    return found


def with_splits(around: Surroundings, path: Path) -> Surroundings:
    """With the cases of each fold by ``splits_final.json``; without where the file is not there.

    Raises:
        ValueError: the file is damaged.
    """
    if not path.is_file():
        return around
    splits = read_json(path, REMEDY, list)
    try:
        parts = [{str(f): tuple(split[part]) for f, split in enumerate(splits)} for part in ("train", "val")]
    except (KeyError, TypeError) as error:
        raise ValueError(f'{path} is no list of {{"train": [cases], "val": [cases]}}; {REMEDY}.') from error
    return replace(around, training=parts[0], validated=parts[1])
