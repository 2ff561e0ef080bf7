"""What is done with the results of an experiment: which trainings are compared, and where the report lies."""

import shlex
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from nnunet_ext.evaluation.runs import SEED, Run
from nnunet_ext.experiments.file import Sweep
from nnunet_ext.experiments.matrix import Matrix
from nnunet_ext.experiments.places import Places
from nnunet_ext.experiments.tasks import Task
from nnunet_ext.networks.registry import PREFIX

FOLDER = "integrated_experiment_results"
TEST = "test"  # stands where a fold would


def report_folder(sweep: Sweep, now: datetime) -> Path:
    """``baseline_results/integrated_experiment_results_<date>_<time>``."""
    return Path(sweep.out, f"{FOLDER}_{now:%Y%m%d_%H%M%S}")


def compare_command(sweep: Sweep, matrix: Matrix, out: Path, jobs: int = 1) -> list[str]:
    """The words of ``nnunet_ext compare`` for the trainings of the methods, without the detector."""
    folders = [str(task.folder) for task in compared(sweep, matrix)]
    words = ["nnunet_ext", "compare", *folders, "-o", str(out), "--jobs", str(jobs)]
    words += ["--reference", sweep.reference] if sweep.reference else []
    words += [] if sweep.cost else ["--no-cost"]
    return words + ([] if sweep.report else ["--no-report"])


def outcomes_command(sweep: Sweep, matrix: Matrix, out: Path, tested: Iterable[Task]) -> list[str]:
    """The words of ``nnunet_ext outcomes`` for case-level trainings.

    Args:
        sweep: the experiment.
        matrix: its commands.
        out: folder of the report.
        tested: predictions of held-out images whose truth is known; as many seeds of each method count as the one with
            fewest has.
    """
    words = ["nnunet_ext", "outcomes", *(str(task.folder) for task in matrix.of("train")), "-o", str(out)]
    for option, values in sweep.outcomes.items():
        words += [f"--{option}", *values]
    by_method: dict[str, list[Path]] = {}
    for task in tested:
        by_method.setdefault(matrix.method_of[task.name].removeprefix(PREFIX), []).append(task.folder)
    fewest = min(map(len, by_method.values()), default=0)
    tests = [f"{method}={folder}" for method, folders in by_method.items() for folder in folders[:fewest]]
    return words + [word for test in tests for word in ("--test", test)]


def compared(sweep: Sweep, matrix: Matrix) -> tuple[Task, ...]:
    """The trainings that are compared: a detector of the cascade is none of them."""
    return tuple(task for task in matrix.of("train") if task.command[2] == sweep.configuration)


def test_runs(tasks: Iterable[Task], places: Places, method_of: dict[str, str]) -> list[Run]:
    """Predictions of held-out images as runs of methods, with as many seeds of each as the one with fewest has.

    Args:
        tasks: that are done.
        places: of the dataset.
        method_of: name of a task -> trainer's name without the seed.
    """
    by_method: dict[str, list[Run]] = {}
    several_ways = len({task.kind for task in tasks}) > 1
    for task in tasks:
        trainer, plans, configuration = task.folder.parent.name.split("__")
        way = {"predict": " window", "cascade": " cascade"}[task.kind] if several_ways else ""
        method = method_of[task.name].removeprefix("nnUNetTrainer_") + way
        seed = SEED.search(trainer)
        run = Run(
            method, trainer, plans, configuration, int(seed[1]) if seed else None, TEST, task.folder, places.dataset
        )
        by_method.setdefault(method, []).append(run)
    fewest = min(map(len, by_method.values()), default=0)
    return [run for runs in by_method.values() for run in sorted(runs, key=lambda run: run.seed or 0)[:fewest]]


def pasted(words: Iterable[str]) -> str:
    """A command as it is typed into a shell."""
    return shlex.join(words)
