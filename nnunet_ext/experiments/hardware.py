"""What this machine has, and what a run needs of it."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_ext.discovery import HOOK_VARIABLE, folders_with_ours
from nnunet_ext.experiments.file import Sweep
from nnunet_ext.experiments.methods import Method
from nnunet_ext.experiments.tasks import Needs
from nnunet_ext.trainers.threads import THREADS
from nnunet_ext.trainers.words import changes_of_memory

MIB, GIB = 2**20, 2**30
CGROUP = Path("/sys/fs/cgroup/memory.max")
STOCK_WORKERS = 12  # nnU-Net's own number of processes that prepare batches beside a GPU
PROCESS_MIB = 2048
"""Main memory of a run's processes without its tensors: Python, torch, nnU-Net, one that writes validations, a volume.

``--sanity`` with DualBranchGhost_XS on phantoms of 40 voxels an axis tells 1430 MiB for the training's own process."""
SHARES = 20  # a GPU is shared out in twentieths


@dataclass(frozen=True)
class Machine:
    """What commands may use.

    Attributes:
        cores: of the machine.
        memory_mib: main memory, or what the container may have of it.
        gpus_mib: memory of each GPU; empty where there is none or nobody knows.
    """

    cores: int
    memory_mib: int
    gpus_mib: tuple[int, ...] = ()


def this_machine(device: str) -> Machine:
    """The machine we are on; asks for its GPUs only if they are wanted."""
    gpus: tuple[int, ...] = ()
    if device == "cuda":
        import torch

        count = torch.cuda.device_count()
        gpus = tuple(torch.cuda.get_device_properties(i).total_memory // MIB for i in range(count))
    return Machine(os.cpu_count() or 1, memory_mib(), gpus)


def memory_mib() -> int:
    """Main memory in MiB: all of it, or the limit of the container."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = CGROUP.read_text(encoding="ascii").strip() if CGROUP.is_file() else "max"
    return min(total, int(limit)) // MIB if limit.isdecimal() else total // MIB


@dataclass(frozen=True)
class Predicted:
    """Memory of a training step.

    Attributes:
        mib: of all tensors at the peak; None where nothing predicts it.
        without: fields of the recipe whose memory is not in it.
    """

    mib: int | None
    without: tuple[str, ...] = ()


def predicted(method: Method, configuration: Mapping[str, Any], dataset: Mapping[str, Any], device: str) -> Predicted:
    """By the planner's prediction; imports torch.

    Args:
        method: the trainer.
        configuration: of the plans, with what it inherits.
        dataset: its description (dataset.json).
        device: whose kernels are assumed; others than CUDA's are taken for the CPU's.

    Raises:
        ValueError: the network cannot be built for these plans or channels.
    """
    from nnunet_ext.planning import needed

    kernels: Any = "cuda" if device == "cuda" else "cpu"
    if method.parsed is None:
        stock = method.trainer == "nnUNetTrainer"  # another package's may train another network
        return Predicted(needed.of_stock(configuration, dataset, kernels) // MIB if stock else None)
    name = method.parsed
    changed = changes_of_memory(name.recipe)
    found, without = needed.of_network(name.spec, name.size, changed, configuration, dataset, kernels)
    return Predicted(found // MIB, without)


def needs_of(sweep: Sweep, memory: Predicted, machine: Machine) -> Needs:
    """What a training with this memory asks for."""
    cores = cores_of(sweep, machine)
    if sweep.device != "cuda":
        return Needs(cpus=cores, memory_mib=PROCESS_MIB + (memory.mib or 0))
    card = card_mib(sweep, machine)
    share = 1.0
    if sweep.share_gpu and card and memory.mib is not None:
        share = min(1.0, math.ceil(SHARES * (memory.mib + reserve_mib()) / card) / SHARES)
    return Needs(cpus=cores, gpus=share, memory_mib=PROCESS_MIB)


def cores_of(sweep: Sweep, machine: Machine) -> int:
    """Cores of one run."""
    usual = min(STOCK_WORKERS, machine.cores) if sweep.device == "cuda" else 1
    return sweep.cores or usual


def card_mib(sweep: Sweep, machine: Machine) -> int | None:
    """Memory of the smallest GPU that a run may get; None where nobody knows."""
    if sweep.gpu_memory:
        return int(sweep.gpu_memory * GIB) // MIB
    return None if sweep.address or not machine.gpus_mib else min(machine.gpus_mib)


def reserve_mib() -> int:
    """Memory of a GPU that holds no tensor; see docs/cost.md."""
    from nnunet_ext.planning.planner import RESERVE

    return int(RESERVE) // MIB


def refusal(name: str, memory: Predicted, sweep: Sweep, machine: Machine) -> str | None:
    """Why a training cannot run here, or None."""
    if memory.mib is None:
        return None
    if sweep.device == "cuda":
        card = card_mib(sweep, machine)
        if card is None and not sweep.address:
            return f"{name} is for a GPU, and this machine has none; give `device: cpu`"
        if card is not None and memory.mib + reserve_mib() > card:
            return (
                f"{name} needs {_gb(memory.mib)} GB for a training step and {_gb(reserve_mib())} GB beside it, and the "
                f"GPU has {_gb(card)} GB; plan a smaller patch (nnunet_ext plan), or leave it out"
            )
        return None
    wanted = memory.mib + PROCESS_MIB
    if not sweep.address and wanted > machine.memory_mib:
        return (
            f"{name} needs {_gb(wanted)} GB of main memory and the machine has {_gb(machine.memory_mib)}; plan a "
            "smaller patch, or leave it out"
        )
    return None


def _gb(mib: float) -> str:
    return f"{mib * MIB / GIB:.1f}"


def environment_of(sweep: Sweep, machine: Machine) -> dict[str, str]:
    """Variables of every command: where the trainers are, and so many threads and processes as the run has cores.

    nnU-Net's commands give torch as many threads as the machine has cores, whoever else is there; our networks are
    built with those of ``THREADS``. The number is fixed, because sums depend on it: a run that goes on has it again.
    """
    cores = cores_of(sweep, machine)
    on_gpu = sweep.device == "cuda"
    workers = cores if on_gpu else min(cores - 1, 1)
    threads = 1 if on_gpu else cores
    found = {"OMP_NUM_THREADS": threads, THREADS: threads, "nnUNet_n_proc_DA": workers}
    variables = {name: str(value) for name, value in found.items()}
    return {**variables, "nnUNet_def_n_proc": "1", HOOK_VARIABLE: folders_with_ours(), **WAITING}


WAITING = {"OMP_WAIT_POLICY": "PASSIVE"}  # a thread that waits leaves its core to others
