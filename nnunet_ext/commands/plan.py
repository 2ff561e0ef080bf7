"""Plan the largest patch and batch with which a network can be trained in a given GPU memory.

nnU-Net's own planner, with the predicted memory of this network's training step (CUDA, automatic mixed precision) in
place of nnU-Net's estimate for its own networks. The plans are written beside those named with -p, whose preprocessed
data they use where spacing, normalisation and resampling are the same, and are named with -p in every command of
nnU-Net.

GB are 2^30 bytes of the card. Some of them hold no tensor, but CUDA's context, the workspaces of its libraries and what
the allocator loses: --reserve holds them back (give 0 to plan for a CPU).
"""

import argparse
import io
import math
import os
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_ext.commands.preprocessed import dataset_folder, dataset_number, read_plans
from nnunet_ext.commands.table import aligned
from nnunet_ext.profiling.cost import GIB, RESERVE

if TYPE_CHECKING:
    from nnunet_ext.planning.memory import TrainingMemory
    from nnunet_ext.planning.planner import FittingPlanner
    from nnunet_ext.planning.search import Fit
    from nnunet_ext.trainers.base import ExtTrainer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    parser.add_argument("-d", required=True, metavar="DATASET", help="number or name of a dataset that is planned")
    parser.add_argument("-tr", required=True, metavar="TRAINER", help="e.g. nnUNetTrainer_DualBranchGhost_M")
    parser.add_argument("--gpu-memory", required=True, type=float, metavar="GB", help="of the card, e.g. 24")
    reserve = RESERVE / GIB
    held = "of it without tensors (default: %(default)s, see docs/cost.md)"
    parser.add_argument("--reserve", type=float, default=reserve, metavar="GB", help=held)
    parser.add_argument(
        "--max-dataset-covered",
        type=float,
        default=0.05,
        metavar="F",
        help="part of the dataset's voxels that a batch may hold (default: %(default)s, nnU-Net's)",
    )
    parser.add_argument("-p", default="nnUNetPlans", metavar="PLANS", help="whose data to use (default: %(default)s)")
    parser.add_argument("--name", help="of the plans (default: PLANS_NETWORK_SIZE_GB, nnUNetPlans_UNet3D_S_8GB)")


def run(args: argparse.Namespace) -> int:
    """Plans, writes the plans and prints what stopped each configuration from being larger."""
    from nnunet_ext.planning.planner import FittingPlanner

    check_numbers(args.gpu_memory, args.max_dataset_covered, args.reserve)
    trainer = trainer_of(args.tr)
    folder = dataset_folder(args.d)
    name = args.name or f"{args.p}_{trainer.spec.trainer}_{trainer.size}_{args.gpu_memory:g}GB"
    plans = read_plans(folder, args.p)
    _check_name(folder, name)
    check_files(folder, f"{name}.json")
    planner = FittingPlanner(folder, plans, memory_of(trainer), args.gpu_memory, name, reserve=args.reserve)
    planner.max_dataset_covered = args.max_dataset_covered
    with redirect_stdout(io.StringIO()):  # nnU-Net prints every configuration in full
        planner.plan_experiment()
    print(_report(planner))
    return 0


def trainer_of(name: str) -> type["ExtTrainer"]:
    """The trainer that a trainer's or a registry name means.

    Raises:
        ValueError: there is none; the sentence says what is nearest.
    """
    from nnunet_ext.networks.registry import PREFIX, find
    from nnunet_ext.trainers import trainer_class

    try:
        return trainer_class(name)
    except AttributeError:
        spec, size = find(name)
        return trainer_class(f"{PREFIX}{spec.trainer}_{size}")


def memory_of(trainer: type["ExtTrainer"]) -> "TrainingMemory":
    """Predicts the trainer's training steps.

    Raises:
        ValueError: its recipe changes what nothing predicts.
    """
    from nnunet_ext.planning.memory import TrainingMemory
    from nnunet_ext.trainers.words import changes_of_memory

    return TrainingMemory.of(trainer.spec, trainer.size, changes_of_memory(trainer.recipe))


def check_numbers(gpu_memory: float, max_dataset_covered: float, reserve: float = 0) -> None:
    """Refuses numbers that no plan can be made for, with a ValueError."""
    if not (math.isfinite(gpu_memory) and gpu_memory > 0):
        raise ValueError(f"--gpu-memory must be a positive number of GB, not {gpu_memory:g}.")
    if not 0 <= reserve < gpu_memory:
        raise ValueError(
            f"Of {gpu_memory:g} GB {reserve:g} are held back for what is no tensor, which leaves nothing; give more "
            "with --gpu-memory, or less with --reserve (0 for a CPU)."
        )
    if not 0 < max_dataset_covered <= 1:
        raise ValueError(f"--max-dataset-covered must be above 0 and at most 1, not {max_dataset_covered:g}.")


def check_files(folder: Path, *written: str) -> None:
    """Refuses a dataset's folder where planning cannot read or write, before it has begun, with a ValueError.

    Args:
        folder: of the dataset in nnUNet_preprocessed.
        written: names of further files that will be written there; nnU-Net writes dataset.json.
    """
    raw = os.environ.get("nnUNet_raw")
    if not raw:
        raise ValueError("nnUNet_raw is not set; `nnunet_ext env` tells how to set it.")
    for path in (Path(raw, folder.name, "dataset.json"), folder / "dataset_fingerprint.json"):
        if not path.is_file():
            raise ValueError(f"Planning reads {path}, which does not exist; run nnUNetv2_plan_and_preprocess first.")
    for path in (folder, *(folder / name for name in ("dataset.json", *written))):
        if path.exists() and not os.access(path, os.W_OK):
            raise ValueError(f"Planning writes to {path}, which is not allowed; change its permissions.")


def _check_name(folder: Path, name: str) -> None:
    if "__" in name or Path(name).name != name:
        raise ValueError(f"Plans cannot be named {name!r}: nnU-Net makes folders of the name and splits it at '__'.")
    path = folder / f"{name}.json"
    if path.is_file() and read_plans(folder, name)["experiment_planner_used"] != "FittingPlanner":
        raise ValueError(f"{path} holds plans that another planner made; choose another --name.")


def _report(planner: "FittingPlanner") -> str:
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    rows = [["configuration", "patch", "batch", "memory", "used", "patch stopped by", "batch stopped by", "data"]]
    missing: dict[str, str] = {}  # the cascade has the data of 3d_fullres
    for name, fit in planner.fits.items():
        data = PlansManager(planner.plans).get_configuration(name).data_identifier
        rows.append([name, *cells(fit, planner.max_dataset_covered), data])
        if not (planner.folder / data).is_dir():
            missing.setdefault(data, name)
    lines = [aligned(rows), ""]
    lines += [f"{name} is left out: {reason}" for name, reason in planner.refused.items()]
    card = planner.UNet_vram_target_GB + planner.reserve
    lines.append(f"For a card of {card:g} GB, of which {planner.reserve:g} are held back for what is no tensor.")
    lines += [f"Written to {planner.path}; name it with -p {planner.plans_identifier}."]
    if missing:
        command = f"nnUNetv2_preprocess -d {dataset_number(planner.folder)} -plans_name {planner.plans_identifier} -c"
        lines.append(f"Not preprocessed yet: {command} {' '.join(missing.values())}")
    return "\n".join(lines)


def cells(fit: "Fit", covered: float) -> list[str]:
    """Patch, batch, memory, share of the target, and the rules that stopped patch and batch."""
    patch = "image size" if fit.covers_image else "nnU-Net's largest patch"
    batch = f"{100 * covered:g} % of the dataset"
    if fit.next_patch:
        patch = f"memory: {_by(fit.next_patch[0])} needs {_gb(fit.next_patch[1])}"
    if fit.next_batch:
        batch = f"memory: {fit.next_batch[0]} needs {_gb(fit.next_batch[1])}"
    return [_by(fit.patch), str(fit.batch), _gb(fit.needed), f"{fit.share:.1%}", patch, batch]


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _gb(size: int) -> str:
    return f"{size / 2**30:.2f} GB"
