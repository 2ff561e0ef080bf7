"""The small form of a sweep: two steps of everything, or a few steps to tell how long they take."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_ext.commands.sweep_plan import Paces, Plan
from nnunet_ext.commands.table import aligned
from nnunet_ext.evaluation.epochs import epochs_of
from nnunet_ext.experiments import estimate
from nnunet_ext.experiments.sanity import PROBE, PROBE_ITERATIONS, SANITY, Miniature, miniature
from nnunet_ext.experiments.tasks import Task

if TYPE_CHECKING:
    from nnunet_ext.experiments.outcome import Outcome

LOGS = "sanity_logs"


def sanity(plan: Plan) -> int:
    """Trains, saves and predicts with every network once; 1 if one failed."""
    arguments = (plan.sweep, plan.methods.chosen, plan.places, plan.number, plan.matrix.test)
    with miniature(*arguments, plan.needs, plan.environment, SANITY) as small:
        outcomes = _done(plan, small, small.matrix.tasks)
        print(_table(small, outcomes))
        failed = [outcome for outcome in outcomes if not outcome.done]
        for outcome in failed:
            print("\n".join([f"{outcome.name}: exit code {outcome.code}", *(f"    {line}" for line in outcome.lines)]))
        if failed:
            print(f"The logs of what failed lie in {_keep_logs(small, plan)}.")
    for method in small.left_out:
        print(f"{method.trainer} is not tried: it has no words for a short training.")
    return int(bool(failed))


def probed(plan: Plan, known: Paces) -> dict[str, estimate.Pace]:
    """Paces of what is trained and not known yet, from a few steps of each."""
    unknown = [method for method in plan.rows if method.trainer not in known]
    chosen = [method for method in unknown if method in plan.methods.chosen]
    sweep = plan.sweep if len(chosen) < len(unknown) else replace(plan.sweep, cascade=None)
    found: dict[str, estimate.Pace] = {}
    with miniature(
        sweep, chosen, plan.places, plan.number, plan.matrix.test, plan.needs, plan.environment, PROBE
    ) as small:
        outcomes = _done(plan, small, small.matrix.of("train"))
        for task, outcome in zip(small.matrix.of("train"), outcomes, strict=True):
            if not outcome.done:
                last = outcome.lines[-1] if outcome.lines else "nothing was printed"
                raise ValueError(f"The probe {outcome.name} ended with {outcome.code}: {last}.")
            if pace := estimate.measured(task.folder, PROBE_ITERATIONS):
                same = small.methods[small.matrix.method_of[task.name]]
                found |= {method.trainer: replace(pace, source="the probe") for method in same}
    return found


def _done(plan: Plan, small: Miniature, tasks: Sequence[Task]) -> "list[Outcome]":
    from nnunet_ext.experiments import pool
    from nnunet_ext.experiments.settings import Settings

    folder = small.places.results.parent.parent / LOGS
    settings = Settings(folder, retries=0, jobs=plan.sweep.jobs, address=plan.sweep.address)
    return pool.run_all(tasks, settings)


def _table(small: Miniature, outcomes: "Sequence[Outcome]") -> str:
    rows = [["run", "result", "seconds", "memory"]]
    by_name = {task.name: task for task in small.matrix.tasks}
    for outcome in outcomes:
        peaks = [epoch.get("peak_mib") for epoch in epochs_of(by_name[outcome.name].folder)]
        memory = f"{max(filter(None, peaks)):.0f} MiB" if any(peaks) else "-"
        result = "done" if outcome.done else f"failed ({outcome.code})"
        rows.append([outcome.name, result, f"{outcome.seconds:.0f}", memory])
    return aligned(rows)


def _keep_logs(small: Miniature, plan: Plan) -> Path:
    """The temporary folder goes; what tells of a failure stays."""
    kept = Path(plan.sweep.out, LOGS)
    shutil.copytree(small.places.results.parent.parent / LOGS / "logs", kept, dirs_exist_ok=True)
    return kept
