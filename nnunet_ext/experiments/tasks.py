"""What an experiment consists of: stock commands, each with what it needs and the folder in which its result lies."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from nnunet_ext.networks.case_zoo import TRAINER as CASE
from nnunet_ext.networks.registry import PREFIX
from nnunet_ext.whole import write_text

Kind = Literal["train", "predict", "cascade"]


@dataclass(frozen=True)
class Needs:
    """What a task asks of the machine that runs it.

    Attributes:
        cpus: cores, the processes that prepare batches included.
        gpus: share of one GPU, 0 on a CPU; two tasks of 0.5 share one.
        memory_mib: of main memory.
    """

    cpus: float = 1
    gpus: float = 0
    memory_mib: int = 0


@dataclass(frozen=True)
class Task:
    """One command that a person could type.

    Attributes:
        name: unique in the experiment and fit for a file name, such as
            ``train-nnUNetTrainer_UNet3D_seed1-3d_fullres-f0``.
        kind: decides how its state is read.
        command: words of the command when it starts anew.
        goes_on: words when it continues what was interrupted; the same as ``command`` where it simply starts again.
        folder: where its result lies (the fold's folder of a training, the output of a prediction).
        after: names of the tasks that must be done first.
        needs: of the machine.
        environment: variables beside those of the caller.
    """

    name: str
    kind: Kind
    command: tuple[str, ...]
    goes_on: tuple[str, ...]
    folder: Path
    after: tuple[str, ...] = ()
    needs: Needs = Needs()
    environment: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def case_level(self) -> bool:
        """Whether its model predicts case-level targets, as the name of the model's folder says."""
        return self.folder.parent.name.startswith(PREFIX + CASE)

    def full_environment(self) -> dict[str, str]:
        """The caller's variables and the task's own; the programs beside this Python come first."""
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        return {**os.environ, "PATH": path, **self.environment}

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "folder": str(self.folder), "environment": dict(self.environment)}


def task_of(record: Mapping[str, Any]) -> Task:
    """The task that :meth:`Task.as_dict` gave."""
    words = {name: tuple(record[name]) for name in ("command", "goes_on", "after")}
    return Task(**{**record, **words, "folder": Path(record["folder"]), "needs": Needs(**record["needs"])})


def write(tasks: Sequence[Task], path: Path) -> None:
    """Writes the tasks for ``--status``, whole or not at all."""
    write_text(path, json.dumps([task.as_dict() for task in tasks], indent=1) + "\n")


def read(path: Path) -> list[Task]:
    """The tasks that :func:`write` wrote.

    Raises:
        ValueError: the file is not there, or something else.
    """
    try:
        return [task_of(record) for record in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, TypeError, KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no list of an experiment's tasks ({error}); name the folder of a sweep.") from None
