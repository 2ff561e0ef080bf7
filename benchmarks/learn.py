"""Does every network learn? Each one overfits a single phantom, the untrained Dice beside it.

    python benchmarks/learn.py [--networks NAME ...] [--jobs N] [--out FILE.json]
    python benchmarks/learn.py --networks unetr --recipe optimiser=AdamW initial_lr=0.001

A network (its smallest size) sees the 64x64x64 voxels around the tumour of one phantom, as a training patch, normalised
as nnU-Net does, without augmentation, with nnU-Net's loss and deep supervision, for at most 300 optimiser steps; it has
learned when the Dice of WT, TC and ET (detectors: of WT) is at least 0.95 in the same step. 2D networks see the slices
through the tumour as one batch. The recipe is one for overfitting, from a table here, not the family's: its
learning rate is the initial one throughout. ``--recipe`` tries another one; nothing is kept of it.
Exit codes: 0 all have learned, 1 one has not, 2 bad arguments.
"""

import argparse
import json
import multiprocessing
import platform
import sys
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from torch import Tensor, nn
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # dataset_conversion is run from the clone, not installed

from dataset_conversion.brats.phantom import make_phantom  # noqa: E402 - needs the path above
from nnunet_ext.coordinates.field import coordinates  # noqa: E402 - see above
from nnunet_ext.networks import registry  # noqa: E402 - see above
from nnunet_ext.networks.spec import NetworkSpec  # noqa: E402 - see above
from nnunet_ext.networks.stock_plan import INPUT_CHANNELS, stock_plan  # noqa: E402 - see above
from nnunet_ext.trainers.guard import FiniteLoss  # noqa: E402 - see above
from nnunet_ext.trainers.optimisers import OPTIMISERS, optimiser_for  # noqa: E402 - see above
from nnunet_ext.trainers.recipe import Recipe  # noqa: E402 - see above
from nnunet_ext.trainers.schedules import DECAYS  # noqa: E402 - see above

WHOLE, EDGE = 128, 64  # voxels of the phantom and of the patch
STAGES = 5  # nnU-Net's number for a patch of 64
STEPS, CHECK_EVERY, GOAL = 300, 10, 0.95
REGIONS = {"WT": (1, 2, 4), "TC": (1, 4), "ET": (4,)}
SEED = 13  # its necrosis is a small part of the core, but without it TC stays below the goal


# with which each network reached the goal; they say nothing about a training on data, whose recipes are published ones
ADAMW = {"optimiser": "AdamW", "initial_lr": 3e-3, "weight_decay": 1e-2, "schedule": "cosine"}
RECIPES: dict[str, dict[str, Any]] = {
    "SwinUNETR": {"optimiser": "AdamW", "initial_lr": 1e-3, "weight_decay": 1e-5, "schedule": "cosine"},
    "DualBranchGhost": {"initial_lr": 2e-2},
    "DualBranchConvNeXt": {"initial_lr": 3e-2},
    "ROIMobileUNETR3D": {**ADAMW, "initial_lr": 1e-3},
    **dict.fromkeys(("MobileUNETR", "MobileUNETR3D", "DualBranchMViT"), ADAMW),
    **dict.fromkeys([f"DualBranchRepLK{form}" for form in ("", "FFN2", "MViT45", "MViT5")], ADAMW),
    **dict.fromkeys([f"DualBranchShuffle{form}" for form in ("V1", "V2", "V2Dilated", "V2LK")], ADAMW),
    **dict.fromkeys(("UNet3D2Modal", "UNet3D4Modal", "DualBranch2Modal", "QuadBranch", "QuadBranchAttention"), ADAMW),
    "DualBranchMobileNetV2DilatedFixed": ADAMW,
}


def overfitting_recipe(spec: NetworkSpec) -> dict[str, Any]:
    """What differs from nnU-Net's recipe when this network learns the phantom."""
    return {**RECIPES.get(spec.trainer, {}), **({"coordinates": True} if spec.detector else {})}


@dataclass(frozen=True)
class Learned:
    """One network's result: Dice per region before training and at the last step."""

    network: str
    size: str
    recipe: dict[str, Any]  # what differs from nnU-Net's
    untrained: dict[str, float]
    steps: int
    trained: dict[str, float]

    @property
    def passed(self) -> bool:
        """Whether every region reached the goal."""
        return min(self.trained.values()) >= GOAL


def patch() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images (4, 64, 64, 64), labels (64, 64, 64) and coordinates (3, 64, 64, 64) around a phantom's tumour."""
    case = make_phantom((WHOLE,) * 3, SEED, 0)
    images = case.images.astype(np.float32)
    brain = images[0] > 0
    for image in images:
        image[brain] = (image[brain] - image[brain].mean()) / image[brain].std()
    tumour = np.argwhere(case.labels)
    first = np.clip((tumour.min(0) + tumour.max(0) + 1 - EDGE) // 2, 0, WHOLE - EDGE)
    z, y, x = (slice(start, start + EDGE) for start in first)
    return images[:, z, y, x], case.labels[z, y, x], coordinates(brain.shape)[:, z, y, x]


def sample(dims: int, *, detector: bool = False) -> tuple[Tensor, Tensor]:
    """The patch as images (B, 4, ...) and regions (B, 3, ...); in 2D its slices with tumour are B.

    A detector's have three more channels, the coordinates, and one region, the whole tumour.
    """
    images, labels, where = patch()
    regions = np.stack([np.isin(labels, found) for found in REGIONS.values()])
    assert regions.any((1, 2, 3)).all(), "the phantom lacks a region; choose another seed"
    if detector:
        images, regions = np.concatenate([images, where]), regions[:1]
    if dims == 3:
        return torch.from_numpy(images)[None], torch.from_numpy(regions)[None]
    slices = np.flatnonzero(regions[0].any((1, 2)))
    return torch.from_numpy(images[:, slices]).transpose(0, 1), torch.from_numpy(regions[:, slices]).transpose(0, 1)


def targets(regions: Tensor, plan: dict) -> list[Tensor]:
    """The regions at the resolutions of deep supervision, by nearest neighbour as nnU-Net samples them."""
    size, out = list(regions.shape[2:]), []
    for stride in plan["strides"][:-1]:
        size = [n // s for n, s in zip(size, stride, strict=True)]
        out.append(nn.functional.interpolate(regions.float(), size, mode="nearest-exact"))
    return out


def dice(logits: Tensor, regions: Tensor) -> dict[str, float]:
    """Dice of each region; the phantom has all three."""
    predicted = logits > 0
    axes = [0, *range(2, regions.ndim)]
    both, total = (predicted & regions).sum(axes), predicted.sum(axes) + regions.sum(axes)
    return dict(zip(REGIONS, (2 * both / total).tolist(), strict=False))  # a detector's only region is the first


def loss_for(n_outputs: int) -> nn.Module:
    """nnU-Net's loss for regions with its weights for deep supervision."""
    loss = DC_and_BCE_loss(
        {}, {"batch_dice": False, "do_bg": True, "smooth": 1e-5}, dice_class=MemoryEfficientSoftDiceLoss
    )
    weights = np.array([0.5**i for i in range(n_outputs - 1)] + [0])
    return FiniteLoss(DeepSupervisionWrapper(loss, weights / weights.sum()))


def network_for(spec: NetworkSpec, plan: dict, images: Tensor, regions: Tensor) -> nn.Module:
    """The smallest size for the sample, initialised as in a training."""
    network = registry.build(
        spec,
        images.shape[1],
        regions.shape[1],
        plan,
        size=spec.sizes[0],
        image_channels=INPUT_CHANNELS,
        patch_size=images.shape[2:],
        deep_supervision=True,
    )
    network.apply(network.initialize)  # type: ignore[arg-type]  # static, as nnU-Net expects it
    return network


def seen(network: nn.Module, images: Tensor, regions: Tensor) -> dict[str, float]:
    """Dice of what the network finds now."""
    with torch.no_grad():
        return dice(network.eval()(images)[0], regions)


def overfit(spec: NetworkSpec, **changes: Any) -> Learned:
    """Trains one network on the phantom, with its recipe for overfitting but for the changes."""
    torch.manual_seed(SEED)
    plan = stock_plan(max(spec.dimensions), STAGES)
    images, regions = sample(max(spec.dimensions), detector=spec.detector)
    network = network_for(spec, plan, images, regions)
    if images.ndim == 5:  # the same numbers; torch's convolutions of few channels are faster so on a CPU
        nn.utils.convert_conv3d_weight_memory_format(network, torch.channels_last_3d)
        images = images.contiguous(memory_format=torch.channels_last_3d)
    changes = {**overfitting_recipe(spec), **changes}
    recipe = Recipe(**changes)
    optimiser, schedule = optimiser_for(recipe, network)
    wanted, loss = targets(regions, plan), loss_for(STAGES - 1)
    untrained = scores = seen(network, images, regions)
    for step in range(1, STEPS + 1):
        schedule.step((step - 1) // recipe.iterations)
        optimiser.zero_grad(set_to_none=True)
        loss(network.train()(images), wanted).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 12)
        optimiser.step()
        if step % CHECK_EVERY == 0:
            scores = seen(network, images, regions)
            if min(scores.values()) >= GOAL:
                break
    return Learned(spec.name, spec.sizes[0], changes, untrained, step, scores)


def markdown(results: list[dict]) -> str:
    """The table for the documents."""
    lines = ["| network | size | untrained WT / TC / ET | steps | trained WT / TC / ET |", "|---|---|---|---:|---|"]
    for r in results:
        scores = [" / ".join(f"{dice:.3f}" for dice in r[k].values()) for k in ("untrained", "trained")]
        lines.append(f"| {r['network']} | {r['size']} | {scores[0]} | {r['steps']} | {scores[1]} |")
    return "\n".join(lines)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [spec.name for spec in registry.specs()]
    parser.add_argument("--networks", nargs="+", default=names, choices=names, metavar="NAME", help="default: all")
    parser.add_argument("--jobs", type=int, default=1, help="networks at a time, each on one core (default: 1)")
    parser.add_argument("--out", type=Path, help="JSON file; results of other networks in it are kept")
    parser.add_argument("--recipe", nargs="+", type=setting, default=[], metavar="FIELD=VALUE", help="another recipe")
    args = parser.parse_args()
    if args.recipe and args.out:
        parser.error("--out keeps what networks learn with the table's recipe; leave out --recipe or --out")
    results = json.loads(args.out.read_text())["results"] if args.out and args.out.exists() else []
    failed = False
    for learned in tqdm(overfit_all(args.networks, args.jobs, dict(args.recipe)), "networks", len(args.networks)):
        failed |= not learned.passed
        results = [r for r in results if r["network"] != learned.network] + [asdict(learned)]
        results.sort(key=lambda r: names.index(r["network"]))
        if args.out:
            save(results, args.out)
    print(markdown(results))
    return int(failed)


def setting(text: str) -> tuple[str, str | float]:
    """``FIELD=VALUE`` of a recipe, in which the value of a rate is a number."""
    known: dict[str, Collection[str] | None] = {
        "optimiser": OPTIMISERS,
        "schedule": DECAYS,
        "initial_lr": None,
        "weight_decay": None,
    }
    name, _, value = text.partition("=")
    if name not in known:
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(known)} before the =, not {text!r}")
    choices = known[name]
    if choices is None:
        return name, float(value)
    if value not in choices:
        raise argparse.ArgumentTypeError(f"expected {name}= one of {', '.join(choices)}, not {value!r}")
    return name, value


def overfit_all(names: Sequence[str], jobs: int, changes: dict[str, str | float]) -> Iterator[Learned]:
    """Each network in a process of its own with one thread, in the order in which they end."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, torch.set_num_threads, (1,), max_tasks_per_child=1) as pool:
        tasks = [pool.submit(overfit, spec, **changes) for spec in registry.specs() if spec.name in names]
        try:
            yield from (task.result() for task in as_completed(tasks))
        finally:  # an error waits for the networks that run, not for the hours of those that wait
            pool.shutdown(cancel_futures=True)


def save(results: list[dict], path: Path) -> None:
    """Writes what is known so far."""
    record = {
        "command": "python benchmarks/learn.py --networks NAME ... --out FILE.json (make learn: all networks)",
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "hardware": f"one thread a network, {platform.machine()} CPU",
        "results": results,
    }
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
