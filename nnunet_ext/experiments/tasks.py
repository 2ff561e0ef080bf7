"""What an experiment consists of: stock commands, each with what it needs and the folder in which its result lies."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

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

    def full_environment(self) -> dict[str, str]:
        """The caller's variables and the task's own."""
        return {**os.environ, **self.environment}
