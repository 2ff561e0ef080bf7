"""How much longer two workers take for N equal trainings than N/2 of them take alone."""

import os
import statistics
import time
from collections.abc import Sequence
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
        ratio: wall / (N / W x median of the single ones).
    """

    runs: int
    workers: int
    single_seconds: tuple[float, ...]
    wall_seconds: float
    ratio: float


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
    """Trains alone, then all by a sweep.

    Raises:
        RuntimeError: a training failed.
    """
    workspace.write(root)
    settings = Settings(root / "experiment", cpus=WORKERS, gpus=0, free_gib=0, retries=0, poll_seconds=0.2)
    alone = [run(task, settings) for task in trainings(root, singles, epochs, steps, "single")]
    began = time.monotonic()
    together = run_all(trainings(root, runs, epochs, steps, "together"), settings)
    wall = time.monotonic() - began
    _check([*alone, *together])
    seconds = tuple(outcome.seconds for outcome in alone)
    ratio = wall / (runs / WORKERS * statistics.median(seconds))
    return Throughput(runs, WORKERS, seconds, round(wall, 2), round(ratio, 3))


def _check(outcomes: Sequence[Any]) -> None:
    for outcome in outcomes:
        if not outcome.done:
            raise RuntimeError("\n".join([outcome.told, *outcome.lines]))


def busy() -> float:
    """Load of the machine over the last minute, before anything is measured."""
    return round(os.getloadavg()[0], 2)
