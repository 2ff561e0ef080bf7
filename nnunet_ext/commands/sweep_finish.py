"""The end of a sweep: evaluation, comparison and report of what was trained and predicted, in a folder of its own."""

import json
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_ext import __version__
from nnunet_ext.commands.sweep_plan import Plan
from nnunet_ext.evaluation.table import whole
from nnunet_ext.experiments import fairness, finish
from nnunet_ext.experiments.tasks import Task

if TYPE_CHECKING:
    import pandas as pd

    from nnunet_ext.experiments.outcome import Outcome

TEST, TEST_MODELS, TEST_COMPARISONS = "test_results.csv", "test_model_comparison.csv", "test_comparisons.csv"
NOTE, RECORD = "fair_comparison.md", "sweep.json"


def report(plan: Plan, outcomes: "Sequence[Outcome]", jobs: int) -> tuple[Path, int]:
    """Writes the report of what is done; returns its folder, and 1 where something had to be left out."""
    from nnunet_ext.cli import main

    out = finish.report_folder(plan.sweep, datetime.now().astimezone())
    out.mkdir(parents=True)
    configuration = plan.places.configuration(plan.sweep.configuration)
    whole(out / NOTE, fairness.note(plan.methods.chosen, configuration, len(plan.sweep.seeds)))
    done = {outcome.name for outcome in outcomes if outcome.done}
    command = plan.at_the_end(out, lambda task: task.name in done, jobs)
    whole(out / RECORD, json.dumps(_record(plan, outcomes, command), indent=1) + "\n")
    code = main(command[1:])
    if plan.methods.case_level:  # the command has judged the held-out images too
        return out, code
    held_out = [task for task in plan.matrix.of("predict", "cascade") if task.name in done]
    if held_out and plan.matrix.test and plan.matrix.test.labels:
        code = max(code, _held_out(plan, held_out, out, jobs))
    return out, code


def _record(plan: Plan, outcomes: "Sequence[Outcome]", command: Sequence[str]) -> dict[str, Any]:
    """What was done by which commands, and how each ended."""
    ends = {outcome.name: outcome.as_dict() for outcome in outcomes}
    return {
        "command": finish.pasted(["nnunet_ext", "sweep", *sys.argv[2:]]),
        "nnunet_ext": __version__,
        "environment": plan.environment,
        "runs": [{"command": finish.pasted(task.command), **ends.get(task.name, {})} for task in plan.matrix.tasks],
        "comparison": finish.pasted(command),
    }


def _held_out(plan: Plan, tasks: Sequence[Task], out: Path, jobs: int) -> int:
    """Tables of the held-out images; 1 if a case failed."""
    from tqdm import tqdm

    from nnunet_ext.commands.compare import evaluation_of
    from nnunet_ext.commands.evaluate import evaluated
    from nnunet_ext.evaluation import comparison
    from nnunet_ext.evaluation.table import read_metrics

    assert plan.matrix.test is not None
    labels, done, failures = str(plan.matrix.test.labels), [], 0
    runs = finish.test_runs(tasks, plan.places, dict(plan.matrix.method_of))
    for run in tqdm(runs, "held-out images", unit="prediction", disable=None):
        name = f"{run.folder.parent.name}/{run.folder.name}"
        folder = out / "evaluations" / name
        summary = evaluated(evaluation_of(run.folder, folder, convention="brats", labels=labels, jobs=jobs))
        failures += len(summary["failures"])
        done.append(comparison.Evaluated(run, name, read_metrics(folder)))
    _tables(comparison.long_table(done), out)
    return int(failures > 0)


def common(table: "pd.DataFrame") -> "pd.DataFrame":
    """The rows whose region and metric every method has: a cascade is measured at its region of interest as well."""
    methods = table.groupby(["region", "metric"])["method"].transform("nunique")
    return table[methods == table["method"].nunique()]


def _tables(table: "pd.DataFrame", out: Path) -> None:
    from nnunet_ext.evaluation import comparison

    shared = common(table)
    parts = comparison.parts_of(shared)
    written = {TEST: table, TEST_MODELS: comparison.method_table(parts)}
    if table["method"].nunique() > 1:
        written[TEST_COMPARISONS] = comparison.verdicts(parts, comparison.regions_of(shared))
        print(f"\nHeld-out images ({table['case'].nunique()} cases):")
        print("\n".join(comparison.sentences(written[TEST_COMPARISONS])))
    for name, each in written.items():
        whole(out / name, each.to_csv(index=False, lineterminator="\n"))
