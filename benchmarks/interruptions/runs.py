"""Trainings on a tiny phantom dataset, each in a fork of a process that has imported torch already.

They go through the functions of ``nnUNetv2_train`` (trainer by name, checkpoint, ``run_training``), without its final
validation of whole volumes, and draw no curves.
"""

import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dynamic_network_architectures.architectures.primus  # noqa: F401 - nnU-Net's search imports it: seconds
import torch
from nnunetv2.run.run_training import find_free_network_port, get_trainer_from_args, maybe_load_checkpoint

import nnunet_ext.trainers.factory  # noqa: F401 - forks find it imported, whatever becomes of the source meanwhile
from nnunet_ext.discovery import HOOK_VARIABLE, hook_folder
from tests.trainers import workspace

FORK = multiprocessing.get_context("fork")
CONFIGURATION, PLANS = "3d_fullres", "nnUNetPlans"
Change = Callable[[Any], None]


@dataclass(frozen=True)
class Training:
    """One training: what does not change when it is interrupted.

    Attributes:
        root: holds the dataset, as :func:`tests.trainers.workspace.write` writes it.
        results: becomes nnUNet_results.
        name: of the trainer.
        settings: attributes of the trainer, such as ``save_steps``.
        threads: of torch.
    """

    root: Path
    results: Path
    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    threads: int = 1

    @property
    def folder(self) -> Path:
        """The fold's folder."""
        return self.results / workspace.DATASET / f"{self.name}__{PLANS}__{CONFIGURATION}" / "fold_0"

    def start(
        self,
        workers: int = 0,
        goes_on: bool = False,
        change: Change | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Any:
        """Starts it; returns the process.

        Args:
            workers: of the augmentation.
            goes_on: as with ``--c``.
            change: called with the trainer before it trains, to have it killed at a certain moment for example.
            environment: further variables.
        """
        process = FORK.Process(target=self._run, args=(workers, goes_on, change, environment or {}))
        process.start()
        return process

    def run(self, workers: int = 0, goes_on: bool = False, change: Change | None = None) -> int:
        """Runs it to its end; returns the exit code, negative for the signal that killed it."""
        process = self.start(workers, goes_on, change)
        process.join()
        return int(process.exitcode)

    def start_together(
        self,
        count: int,
        goes_on: bool = False,
        changes: Mapping[int, Change] | None = None,
        environments: Mapping[int, Mapping[str, str]] | None = None,
    ) -> list[Any]:
        """Starts the processes of one training, with the variables that torchrun would set; returns them by rank.

        Args:
            count: of processes.
            goes_on: as with ``--c``.
            changes: of the trainer, by rank.
            environments: further variables, by rank.
        """
        launch = {
            "TORCHELASTIC_RUN_ID": "forked",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(find_free_network_port()),
        }
        each = [{**launch, "WORLD_SIZE": str(count), "RANK": str(r), "LOCAL_RANK": str(r)} for r in range(count)]
        return [
            self.start(0, goes_on, (changes or {}).get(rank), {**variables, **(environments or {}).get(rank, {})})
            for rank, variables in enumerate(each)
        ]

    def _run(self, workers: int, goes_on: bool, change: Change | None, environment: Mapping[str, str]) -> None:
        self.results.mkdir(parents=True, exist_ok=True)
        with open(self.results / f"output_{os.getpid()}.txt", "w", buffering=1, encoding="utf-8") as output:
            os.dup2(output.fileno(), sys.stdout.fileno() if _is_real(sys.stdout) else 1)
            os.dup2(output.fileno(), 2)
            sys.stdout = sys.stderr = output
            os.environ.update(self.environment(workers), **environment)
            torch.set_num_threads(self.threads)
            try:
                code = self._train(goes_on, change)
            except SystemExit as leaving:
                code = int(leaving.code or 0)
            except BaseException:
                traceback.print_exc()
                code = 1
            output.flush()
        os._exit(code)  # what the parent registered for its own end is not this process's business

    def environment(self, workers: int) -> dict[str, str]:
        """The variables with which nnU-Net finds folders and trainers."""
        folders = {"nnUNet_raw": self.root / "raw", "nnUNet_preprocessed": self.root / "preprocessed"}
        return {
            **{name: str(path) for name, path in folders.items()},
            "nnUNet_results": str(self.results),
            HOOK_VARIABLE: str(hook_folder()),
            "nnUNet_def_n_proc": "1",
            "nnUNet_n_proc_DA": str(workers),
        }

    def _train(self, goes_on: bool, change: Change | None) -> int:
        trainer: Any = get_trainer_from_args(
            workspace.DATASET, CONFIGURATION, 0, self.name, PLANS, goes_on, torch.device("cpu")
        )
        for name, value in self.settings.items():
            setattr(trainer, name, value)
        trainer.logger.plot_progress_png = lambda _folder: None  # seconds each epoch
        if change is not None:
            change(trainer)
        maybe_load_checkpoint(trainer, goes_on, False)
        trainer.run_training()
        return 0

    def outputs(self) -> str:
        """What all runs have printed."""
        return "\n".join(path.read_text(encoding="utf-8") for path in sorted(self.results.glob("output_*.txt")))


def _is_real(stream: Any) -> bool:
    try:
        return bool(stream.fileno() == 1)
    except (OSError, ValueError):  # pytest's replacement has none
        return False


def kill(process: Any) -> None:
    """SIGKILL, and waits for the end."""
    os.kill(process.pid, signal.SIGKILL)
    process.join()
