"""Several processes and machines: what torchrun says, and what nnU-Net does not know of it.

nnU-Net starts processes for the GPUs of one machine itself (``-num_gpus``) and takes the rank for the GPU's index.
Under torchrun each process is a command of its own: it builds the network as if it were alone, on the GPU of its
*local* rank, and joins the others when training or validation starts. Until then nothing needs them, and pretrained
weights are read on every machine as on one.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed as dist

if TYPE_CHECKING:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

BACKENDS = {"cuda": "nccl", "cpu": "gloo"}


@dataclass(frozen=True)
class Place:
    """One process among those of torchrun.

    Attributes:
        rank: among all processes; 0 writes the files.
        local_rank: among those of this machine: the index of its GPU.
        world_size: number of all processes.
        restarts: how often torchrun started them anew.
    """

    rank: int
    local_rank: int
    world_size: int
    restarts: int


def place() -> Place | None:
    """This process's place, or None where torchrun did not start it."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "TORCHELASTIC_RESTART_COUNT")
    return Place(*(int(os.environ.get(name, "0")) for name in names))


def restarted() -> bool:
    """Whether torchrun started this process in place of one that ended."""
    here = place()
    return here is not None and here.restarts > 0


def join(device: torch.device) -> None:
    """Meets the other processes.

    Raises:
        ValueError: the device has no backend.
    """
    if device.type not in BACKENDS:
        raise ValueError(f"Several processes train on {' or '.join(BACKENDS)}, not on {device.type}; run one process.")
    dist.init_process_group(BACKENDS[device.type])


def part() -> None:
    """Leaves the others, where torchrun had brought them together."""
    if place() and dist.is_initialized():
        dist.destroy_process_group()


def together() -> bool:
    """Whether this process has met others."""
    return dist.is_available() and dist.is_initialized()


def anyone(flag: bool, device: torch.device) -> bool:
    """Whether the flag is set in any process: all must leave after the same step."""
    if not together():
        return flag
    shared = torch.tensor(int(flag), device=device)
    dist.all_reduce(shared, dist.ReduceOp.MAX)
    return bool(shared.item())


def gather(value: Any) -> list[Any]:
    """The value of each process, by rank."""
    if not together():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def wait() -> None:
    """Waits until all processes are here."""
    if together():
        dist.barrier()


@contextmanager
def writing_alone(trainer: "nnUNetTrainer") -> Iterator[None]:
    """In all ranks but the first, nnU-Net's files for the model go to a folder that is thrown away.

    nnU-Net has every rank write plans.json and dataset.json of one folder at the same time.
    """
    if trainer.local_rank == 0:
        yield
        return
    folder = trainer.output_folder_base
    with tempfile.TemporaryDirectory() as elsewhere:
        trainer.output_folder_base = elsewhere
        try:
            yield
        finally:
            trainer.output_folder_base = folder
