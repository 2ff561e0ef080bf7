"""How much longer two workers take for N equal trainings than N/2 of them take alone."""

import os
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_ext.discovery import HOOK_VARIABLE, hook_folder
from nnunet_ext.experiments.pool import run_all
from nnunet_ext.experiments.settings import Settings
from nnunet_ext.experiments.supervise import run
from nnunet_ext.experiments.tasks import Task
from tests.trainers import workspace

TRAINER = "nnUNetTrainer_DualBranchGhost_XS_{epochs}epochs_iter{steps}_seed42"
WORKERS = 2
MOST = 1.15


@dataclass(frozen=True)
class Throughput:
    """What was measured.

    Attributes:
        runs, workers: N and W.
        single_seconds: of a training alone, each time.
        wall_seconds: of the sweep, Ray's start and end included.
        by_hand_seconds: of as many commands, W of them at a time, without a sweep: what the machine gives to two that
            share its memory.
        ratio: wall / (N / W x median of the single ones).
        by_hand_ratio: the same of the commands by hand.
        overhead: wall / by hand.
    """

    runs: int
    workers: int
    single_seconds: tuple[float, ...]
    wall_seconds: float
    by_hand_seconds: float
    ratio: float
    by_hand_ratio: float
    overhead: float


def trainings(root: Path, number: int, epochs: int, steps: int, name: str) -> list[Task]:
    """Equal trainings of the phantom dataset, each with results of its own."""
    trainer = TRAINER.format(epochs=epochs, steps=steps)
    return [training(root, f"{name}{i}", trainer) for i in range(number)]


def training(root: Path, name: str, trainer: str) -> Task:
    """A training of nnUNetv2_train on one thread, with the dataset of ``root`` and results of its own."""
    results = root / f"results_{name}"
    dataset = workspace.DATASET
    command = ("nnUNetv2_train", dataset, "3d_fullres", "0", "-tr", trainer, "-device", "cpu")
    environment = {
        "nnUNet_raw": str(root / "raw"),
        "nnUNet_preprocessed": str(root / "preprocessed"),
        "nnUNet_results": str(results),
        HOOK_VARIABLE: str(hook_folder()),
        "nnUNet_def_n_proc": "1",
        "nnUNet_n_proc_DA": "0",
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "nnUNet_ext_threads": "1",
    }
    folder = results / dataset / f"{trainer}__nnUNetPlans__3d_fullres" / "fold_0"
    return Task(name, "train", command, (*command, "--c"), folder, environment=environment)


def measured(root: Path, runs: int, singles: int, epochs: int, steps: int) -> Throughput:
    """Trains alone, then all by hand, then all by a sweep.

    Raises:
        RuntimeError: a training failed.
    """
    workspace.write(root)
    settings = Settings(root / "experiment", cpus=WORKERS, gpus=0, free_gib=0, retries=0, poll_seconds=0.2)
    alone = [run(task, settings) for task in trainings(root, singles, epochs, steps, "single")]
    by_hand, hand_seconds = _timed(
        lambda tasks: _by_hand(tasks, settings), trainings(root, runs, epochs, steps, "hand")
    )
    swept, wall = _timed(lambda tasks: run_all(tasks, settings), trainings(root, runs, epochs, steps, "together"))
    _check([*alone, *by_hand, *swept])
    seconds = tuple(outcome.seconds for outcome in alone)
    ideal = runs / WORKERS * statistics.median(seconds)
    ratios = (round(each, 3) for each in (wall / ideal, hand_seconds / ideal, wall / hand_seconds))
    return Throughput(runs, WORKERS, seconds, wall, hand_seconds, *ratios)


def _by_hand(tasks: Sequence[Task], settings: Settings) -> list[Any]:
    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(lambda task: run(task, settings), tasks))


def _timed(way: Callable[[Sequence[Task]], Sequence[Any]], tasks: Sequence[Task]) -> tuple[Sequence[Any], float]:
    began = time.monotonic()
    outcomes = way(tasks)
    return outcomes, round(time.monotonic() - began, 2)


def _check(outcomes: Sequence[Any]) -> None:
    for outcome in outcomes:
        if not outcome.done:
            raise RuntimeError("\n".join([outcome.told, *outcome.lines]))


def busy() -> float:
    """Load of the machine over the last minute, before anything is measured."""
    return round(os.getloadavg()[0], 2)
