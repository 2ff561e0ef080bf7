"""What a sweep of case-level trainings needs beside what every sweep needs: targets, folds by patient, known truth."""

from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_ext.experiments.methods import Method
from nnunet_ext.experiments.places import SPLITS
from nnunet_ext.images.folder import cases_of
from nnunet_ext.outcomes.columns import SCHEMA_FILE

if TYPE_CHECKING:
    from nnunet_ext.commands.sweep_plan import Plan
    from nnunet_ext.experiments.file import Sweep
    from nnunet_ext.outcomes.targets import Targets

NOT_FOR_CASES = ("cascade", "reference")
"""Keys that mean something for segmentations alone and would be missed in the report."""
OF_SEVERAL_FOLDS = ("ensemble", "combine", "nested")
"""Options of the report that need folds other than the one that is told."""


def check(plan: "Plan") -> None:
    """Refuses what would stop a case-level training, before any begins.

    Raises:
        ValueError: a key for segmentations, no or wrong targets, no folds or folds that part a patient, words that ask
            for what targets.json does not declare, or a fold of whose training cases nothing can be learnt.
    """
    from nnunet_ext.outcomes.folds import check_splits
    from nnunet_ext.outcomes.targets import load_targets

    _check_keys(plan.sweep)
    targets, path = load_targets(plan.places.preprocessed), plan.places.preprocessed / SPLITS
    if plan.places.splits is None:
        raise ValueError(
            f"There is no {path}; run nnunet_ext targets -d {plan.number}, which makes folds by patient (those that "
            "nnU-Net makes may train on a patient whom they validate)."
        )
    splits = check_splits(targets, plan.places.splits, str(path))
    _check_options(plan.sweep, targets, [method.short for method in plan.methods.chosen])
    for method in plan.methods.chosen:
        _check_method(method, targets, {int(fold): splits[int(fold)]["train"] for fold in plan.sweep.folds})


def refuse_keys(sweep: "Sweep") -> None:
    """Refuses, in a sweep of segmentations, what is for case-level targets, by a ValueError."""
    if sweep.outcomes:
        raise ValueError("outcomes is for case-level trainers (Case...), and these segment; leave it out.")


def _check_keys(sweep: "Sweep") -> None:
    if given := [name for name in NOT_FOR_CASES if getattr(sweep, name)]:
        raise ValueError(
            f"{given[0]} is for segmentations, and these trainers predict case-level targets; leave it out."
        )
    if len(sweep.folds) < 2 and (given := [name for name in OF_SEVERAL_FOLDS if name in sweep.outcomes]):
        raise ValueError(
            f"outcomes, {given[0]}: it is found on other folds than it is told of; name two folds or more."
        )
    if "all" in sweep.folds:
        raise ValueError("Fold all validates on the cases it trains on, which tells nothing of targets; name numbers.")


def _check_options(sweep: "Sweep", targets: "Targets", methods: list[str]) -> None:
    """Refuses options of `nnunet_ext outcomes` that it would refuse after all trainings."""
    from nnunet_ext.commands.outcomes import named_covariates
    from nnunet_ext.outcomes.pairs import groups_of

    if patterns := sweep.outcomes.get("combine"):
        groups_of(patterns, methods)
    if words := sweep.outcomes.get("covariates"):
        named_covariates(words[0], tuple(targets.covariates))


def _check_method(method: Method, targets: "Targets", training: dict[int, list[str]]) -> None:
    from nnunet_ext.outcomes.building import as_trained, check_fusion, declaration
    from nnunet_ext.outcomes.folds import check_part
    from nnunet_ext.outcomes.trainer import chosen

    assert method.parsed is not None
    check_fusion(method.parsed.spec, method.parsed.recipe)
    columns = as_trained(chosen(targets, method.parsed.recipe.targets), method.parsed.recipe)
    declaration(targets.schema, columns, method.parsed.recipe)
    for fold, cases in training.items():
        for column in columns:
            check_part(targets, column.name, cases, f"the training cases of fold {fold}")


def check_table(images: Path, table: Path, ending: str) -> None:
    """Refuses a table that has a row of no held-out case, by a ValueError: predict-cases would."""
    from nnunet_ext.outcomes.tables import read_table

    cases = cases_of(images, ending)
    if not set(cases) & set(read_table(table)):
        raise ValueError(f"{table} has a row of none of the {len(cases)} cases in {images}; name them alike.")


def truth_is_known(plan: "Plan") -> bool:
    """Whether the table of the held-out images has the value of a target for one of them."""
    from nnunet_ext.outcomes.columns import load_schema
    from nnunet_ext.outcomes.tables import read_table

    test = plan.matrix.test
    if test is None or test.labels is None:
        return False
    names = load_schema(plan.places.preprocessed / SCHEMA_FILE).columns
    rows = read_table(test.labels)
    cases = cases_of(test.images, plan.places.dataset_json["file_ending"])
    return any(rows[case].get(name) for case in cases if case in rows for name in names)
