"""Train and compare many networks by one command: trainers x seeds x folds, from FILE.yaml or the same as flags.

Every run is a command of nnU-Net that can be typed by hand; what is finished is known from nnUNet_results, so the same
command goes on after a crash, a kill or a full disk, and repeats nothing. At the end the trainings are evaluated and
compared (case-level ones as by `nnunet_ext outcomes`), and the report lies in baseline_results/. Flags take what the
file's keys take and replace them. See docs/experiments.md. Needs the extras `sweep` and `report` (pip install
"nnunet_ext[sweep,report]").
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_ext.experiments.file import KEYS, Sweep, parse_yaml, read, sweep_of

if TYPE_CHECKING:
    from nnunet_ext.commands.sweep_plan import Plan
    from nnunet_ext.experiments.outcome import Outcome
    from nnunet_ext.experiments.settings import Settings
    from nnunet_ext.experiments.tasks import Task

TASKS, ENDS = "tasks.json", "ends.json"
LOCK = ".sweep.lock"
REFUSED = 2  # by the command that makes the report
STOPPED = 75  # a run was asked to stop and has saved itself


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options: one for each key of the file, and what is to be done."""
    add = parser.add_argument
    add("file", nargs="?", type=Path, metavar="FILE", help="YAML; docs/experiments.md has an example and all keys")
    todo = parser.add_mutually_exclusive_group()
    todo.add_argument("--dry-run", action="store_true", help="tell every command, time, memory; start nothing")
    todo.add_argument("--sanity", action="store_true", help="two steps of everything, in folders of their own")
    todo.add_argument("--status", action="store_true", help="how an experiment that was started stands")
    todo.add_argument("--slurm", action="store_true", help="submit the runs as arrays of Slurm, by submitit")
    add("--probe", action="store_true", help="measure a few steps of each network for the times of --dry-run")
    for name, key in KEYS.items():
        told = key.metadata["told"].replace("`", "").replace("%", "%%")
        add(f"--{name.replace('_', '-')}", dest=f"key_{name}", nargs="+", metavar="VALUE", help=told)


def run(args: argparse.Namespace) -> int:
    """Does what was asked for; Ctrl-C ends it as it ends runs, whatever it is doing."""
    try:
        return _run(args)
    except KeyboardInterrupt:
        print("Stopped; the same command goes on from what is saved.", file=sys.stderr)
        return STOPPED


def _run(args: argparse.Namespace) -> int:
    if args.probe and (args.sanity or args.status or args.slurm):
        raise ValueError("--probe measures for --dry-run, and starts nothing else; give it with that or alone.")
    sweep = asked(args)
    if args.status:
        return _status(sweep, args)
    from nnunet_ext.commands.sweep_plan import plan_of
    from nnunet_ext.experiments.ready import without_probabilities

    plan = plan_of(sweep)
    if told := without_probabilities(plan.matrix.tasks):
        print(told, file=sys.stderr)
    if args.sanity:
        return _sanity(plan)
    if args.dry_run or args.probe:
        print(_told(plan, args.probe))
        return 0
    _check_extras()
    return _carry_out(plan, args)


def asked(args: argparse.Namespace) -> Sweep:
    """The experiment of file and flags."""
    given = read(args.file) if args.file else {}
    flags = {name: value for name in KEYS if (value := getattr(args, f"key_{name}")) is not None}
    given |= {name: _value(words, f"--{name.replace('_', '-')}") for name, words in flags.items()}
    return sweep_of(given, str(args.file) if args.file else "The command")


def _value(words: Sequence[str], flag: str) -> Any:
    """One word is any YAML; several are a list."""
    values = [parse_yaml(word, f"{flag} {word}") for word in words]
    return values[0] if len(values) == 1 else values


def _check_extras() -> None:
    """What the end needs is looked for before the beginning."""
    from importlib.util import find_spec

    from nnunet_ext.commands.compare import EXTRA

    if missing := [name for name in ("ray", *EXTRA) if find_spec(name) is None]:
        raise ValueError(f'{", ".join(missing)} is not installed; pip install "nnunet_ext[sweep,report]".')


def _told(plan: "Plan", probe: bool) -> str:
    from nnunet_ext.commands.sweep_plan import dry_run, paces_of
    from nnunet_ext.experiments.state import state_of

    paces = paces_of(plan)
    if probe:
        from nnunet_ext.commands.sweep_sanity import probed

        paces |= probed(plan, paces)
    return dry_run(plan, paces, lambda task: state_of(task).value)


def _status(sweep: Sweep, args: argparse.Namespace) -> int:
    from nnunet_ext.commands.sweep_plan import folder_of, places_of
    from nnunet_ext.experiments import live, tasks

    folder = folder_of(places_of(sweep), sweep, args.file)
    if not (folder / TASKS).is_file():
        raise ValueError(f"This experiment was not started: there is no {folder / TASKS}.")
    begun = tasks.read(folder / TASKS)
    print(live.status(begun))
    if failed := _failures(folder, begun):
        print("\n".join(["When the sweep last ended:", *failures(failed, settings_of(sweep, folder))]))
    return 0


def _failures(folder: Path, begun: "Sequence[Task]") -> "list[Outcome]":
    """What failed when the sweep last ended, and is not done by now."""
    from nnunet_ext.experiments.outcome import outcome_of
    from nnunet_ext.experiments.state import State, state_of

    if not (folder / ENDS).is_file():
        return []
    left = {task.name for task in begun if state_of(task) is not State.FINISHED}
    found = map(outcome_of, json.loads((folder / ENDS).read_text(encoding="utf-8")))
    return [outcome for outcome in found if outcome.name in left]


def _sanity(plan: "Plan") -> int:
    from nnunet_ext.commands.sweep_sanity import sanity

    return sanity(plan)


def _carry_out(plan: "Plan", args: argparse.Namespace) -> int:
    from nnunet_ext.commands.sweep_plan import folder_of
    from nnunet_ext.experiments import tasks

    _make_splits(plan)
    settings = settings_of(plan.sweep, folder_of(plan.places, plan.sweep, args.file))
    settings.folder.mkdir(parents=True, exist_ok=True)
    with _only_one(settings.folder):
        tasks.write(plan.matrix.tasks, settings.folder / TASKS)
        return _submit(plan, settings) if args.slurm else _dispatch(plan, settings)


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Holds the experiment's folder: a second sweep of its name would replace its list of runs and its wish to stop."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(
            f"A sweep of the name {folder.name} is at work (its folder is {folder}); look with --status, or give this "
            "one another name with --name."
        ) from None
    try:
        yield
    finally:
        lock.release()


def _dispatch(plan: "Plan", settings: "Settings") -> int:
    from nnunet_ext.evaluation.table import whole
    from nnunet_ext.experiments import live, pool

    try:
        with live.watching(plan.matrix.tasks):
            outcomes = pool.run_all(plan.matrix.tasks, settings)
        failed = [outcome.as_dict() for outcome in outcomes if not outcome.done]
        whole(settings.folder / ENDS, json.dumps(failed, indent=1) + "\n")
    except pool.HeadLostError as error:
        print(f"Ray ended again and again ({error}); what is trained is kept: give the same command.", file=sys.stderr)
        return 1
    return _end(plan, outcomes, settings)


def _make_splits(plan: "Plan") -> None:
    if plan.places.splits is None and any(fold != "all" for fold in plan.sweep.folds):
        from nnunet_ext.planning.splits import make_splits

        make_splits(plan.places.preprocessed, plan.places.data(plan.sweep.configuration))


def settings_of(sweep: Sweep, folder: Path) -> "Settings":
    """How the runs are carried out."""
    from nnunet_ext.experiments.settings import Settings

    return Settings(
        folder=folder,
        retries=sweep.retries,
        stale_minutes=sweep.stale_minutes,
        jobs=sweep.jobs,
        address=sweep.address,
    )


def _submit(plan: "Plan", settings: "Settings") -> int:
    from nnunet_ext.experiments import slurm

    jobs = slurm.submit(plan.matrix.tasks, settings, plan.sweep.slurm_options)
    print(f"{len(plan.matrix.tasks)} runs are submitted ({', '.join(jobs)}); the same command without --slurm finishes")
    return 0


def _end(plan: "Plan", outcomes: "Sequence[Outcome]", settings: "Settings") -> int:
    """The table of what failed, and the report of what is done."""
    from nnunet_ext.commands.sweep_finish import report
    from nnunet_ext.experiments.finish import compared

    failed = [outcome for outcome in outcomes if not outcome.done]
    print(ends(outcomes, settings))
    if any(outcome.code == STOPPED for outcome in failed):
        print("The sweep was stopped; the same command goes on with it.", file=sys.stderr)
        return STOPPED
    done = {outcome.name for outcome in outcomes if outcome.done}
    if not any(task.name in done for task in compared(plan.sweep, plan.matrix)):
        print("No training is finished, so nothing is compared.", file=sys.stderr)
        return 1
    out, code = report(plan, outcomes, plan.sweep.jobs or 1)
    if code == REFUSED:
        print(f"The comparison was refused, see above; what was told before lies in {out}.", file=sys.stderr)
    else:
        print(f"The report lies in {out}.")
    return int(bool(failed or code))


def ends(outcomes: "Sequence[Outcome]", settings: "Settings") -> str:
    """How many are done, and the table of those that failed."""
    done = [outcome for outcome in outcomes if outcome.done]
    before = sum(outcome.tries == 0 for outcome in done)
    first = f"{len(done)} of {len(outcomes)} runs are done, {before} of them were before."
    return "\n".join([first, *failures(outcomes, settings)])


def failures(outcomes: "Sequence[Outcome]", settings: "Settings") -> list[str]:
    """Lines of what failed: exit code, and the last lines of its log."""
    lines = []
    for outcome in (outcome for outcome in outcomes if not outcome.done):
        told = f" ({outcome.told})" if outcome.told else ""
        lines.append(f"{outcome.name}: exit code {outcome.code} after {outcome.tries} tries{told}")
        lines += [f"    {line}" for line in outcome.lines]
        log = settings.log(outcome.name)
        lines += [f"    its log: {log}"] if log.is_file() else []
    return lines
