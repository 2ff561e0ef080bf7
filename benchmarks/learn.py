"""Can every network learn? Each overfits a single phantom; the untrained Dice stands beside it.

    python benchmarks/learn.py [--networks NAME ...] [--jobs N] [--out FILE.json]     # make learn: all networks
    python benchmarks/learn.py --networks unetr --recipe optimiser=SGD initial_lr=0.01

A network (its smallest size) sees the 32x32x32 voxels around the tumour of one phantom, as a training patch of batch 1,
normalised as nnU-Net does, without augmentation, with nnU-Net's loss and deep supervision and a plan of 4 stages, which
is nnU-Net's number for that patch. 2D networks see the slices through the tumour as one batch. It has learned when the
Dice of WT, TC and ET (detectors: of WT) is at least 0.95 in the same step; it is stopped there.

The recipe is one for overfitting, the same for all networks but for those in ``EXCEPTIONS``, its schedule compressed to
the run. It shows that a network can learn. It says nothing about the defaults that a training has, nor about which
network is the better one. All networks start from one seed; a few very different ones from two more.
``--recipe`` tries another recipe; nothing is kept of it.
Exit codes: 0 all have learned, 1 one has not, 2 bad arguments.
"""

import argparse
import json
import multiprocessing
import sys
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from torch import Tensor, nn
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # dataset_conversion is run from the clone, not installed

from benchmarks import record  # noqa: E402 - needs the path above
from dataset_conversion.brats.phantom import make_phantom  # noqa: E402 - see above
from nnunet_ext.coordinates.field import coordinates  # noqa: E402 - see above
from nnunet_ext.networks import registry  # noqa: E402 - see above
from nnunet_ext.networks.spec import NetworkSpec  # noqa: E402 - see above
from nnunet_ext.networks.stock_plan import INPUT_CHANNELS, stock_plan  # noqa: E402 - see above
from nnunet_ext.trainers.guard import FiniteLoss  # noqa: E402 - see above
from nnunet_ext.trainers.optimisers import OPTIMISERS, optimiser_for  # noqa: E402 - see above
from nnunet_ext.trainers.recipe import Recipe  # noqa: E402 - see above
from nnunet_ext.trainers.schedules import DECAYS  # noqa: E402 - see above

WHOLE, EDGE = 64, 32  # voxels of the phantom and of the patch
STAGES = 4  # nnU-Net's number for a patch of 32
STEPS, CHECK_EVERY, GOAL = 600, 10, 0.95
REGIONS = {"WT": (1, 2, 4), "TC": (1, 4), "ET": (4,)}
PHANTOM = 10  # a quarter of its core is necrosis: who takes the enhancing tumour for the core has 0.87 for TC
RECIPE: Mapping[str, Any] = {
    "optimiser": "AdamW",
    "initial_lr": 5e-3,
    "weight_decay": 0.0,  # to overfit is the aim
    "schedule": "cosine",
}
WARMUP = 20  # the part of the steps in which the rate rises: one in so many
EXCEPTIONS: Mapping[str, Mapping[str, Any]] = {}
"""What differs from ``RECIPE`` for networks that do not learn with it."""
SEED = 1  # of the initial weights
FURTHER_SEEDS = (2, 3)
VARIED = ("unet3d", "dualbranch_14_ghostnet", "dualbranch_04_unet", "unetr", "swin_unetr", "mobile_unetr_3d")
"""Plain convolutions, light blocks, large kernels, global attention, windowed attention, a hybrid."""


class Run(NamedTuple):
    """One network from one initialisation."""

    network: str
    seed: int


@dataclass(frozen=True)
class Learned:
    """One network's result: Dice per region before training and at the last step."""

    network: str
    size: str
    seed: int
    changes: dict[str, Any]  # what differs from the recipe of all
    untrained: dict[str, float]
    steps: int
    trained: dict[str, float]

    @property
    def passed(self) -> bool:
        """Whether every region reached the goal."""
        return min(self.trained.values()) >= GOAL


def patch() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images (4, 32, 32, 32), labels (32, 32, 32) and coordinates (3, 32, 32, 32) around a phantom's tumour."""
    case = make_phantom((WHOLE,) * 3, PHANTOM, 0)
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


def recipe_for(network: str, changes: Mapping[str, Any]) -> tuple[Recipe, dict[str, Any]]:
    """The recipe of a network, its schedule compressed to the run, and what differs from that of all networks."""
    changed = {**EXCEPTIONS.get(network, {}), **changes}
    steps = {"warmup_epochs": STEPS // WARMUP, "epochs": STEPS, "iterations": 1}
    return Recipe(**{**RECIPE, **changed, **steps}), changed


def overfit(run: Run, **changes: Any) -> Learned:
    """Trains one network on the phantom, with the recipe for overfitting but for the changes."""
    torch.manual_seed(run.seed)
    spec = next(spec for spec in registry.specs() if spec.name == run.network)
    plan = stock_plan(max(spec.dimensions), STAGES)
    images, regions = sample(max(spec.dimensions), detector=spec.detector)
    network = network_for(spec, plan, images, regions)
    if images.ndim == 5:  # the same numbers; torch's convolutions of few channels are faster so on a CPU
        nn.utils.convert_conv3d_weight_memory_format(network, torch.channels_last_3d)
        images = images.contiguous(memory_format=torch.channels_last_3d)
    recipe, changed = recipe_for(run.network, changes)
    untrained = scores = seen(network, images, regions)
    for step in steps(network, recipe, images, targets(regions, plan)):
        if step % CHECK_EVERY == 0:
            scores = seen(network, images, regions)
            if min(scores.values()) >= GOAL:
                break
    return Learned(spec.name, spec.sizes[0], run.seed, changed, untrained, step, scores)


def steps(network: nn.Module, recipe: Recipe, images: Tensor, wanted: list[Tensor]) -> Iterator[int]:
    """Takes one optimiser step after the other, until the recipe ends, and says how many have been taken."""
    optimiser, schedule = optimiser_for(recipe, network)
    loss = loss_for(len(wanted))
    for step in range(1, recipe.epochs + 1):
        schedule.step(step - 1)
        optimiser.zero_grad(set_to_none=True)
        loss(network.train()(images), wanted).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 12)
        optimiser.step()
        yield step


def markdown(results: Sequence[Mapping[str, Any]]) -> str:
    """The table for the documents: every network from the seed of all."""
    header = ["network", "size", "untrained WT / TC / ET", "steps", "trained WT / TC / ET"]
    return record.markdown(header, (row(r) for r in results if r["seed"] == SEED))


def row(result: Mapping[str, Any]) -> list[str]:
    """The cells of one result."""
    scores = [" / ".join(f"{dice:.3f}" for dice in result[k].values()) for k in ("untrained", "trained")]
    return [result["network"], result["size"], scores[0], str(result["steps"]), scores[1]]


def ranges(results: Sequence[Mapping[str, Any]]) -> str:
    """The table of the networks that start from several seeds: the steps of each, the lowest Dice of all."""
    found = defaultdict(list)
    for r in results:
        found[r["network"]].append(r)
    several = {name: rows for name, rows in found.items() if len(rows) > 1}
    lines = (
        [
            name,
            ", ".join(str(r["steps"]) for r in sorted(rows, key=lambda r: r["seed"])),
            f"{min(r['steps'] for r in rows)} to {max(r['steps'] for r in rows)}",
            f"{min(min(r['trained'].values()) for r in rows):.3f}",
        ]
        for name, rows in several.items()
    )
    return record.markdown(["network", "steps, one for each seed", "range", "lowest Dice of a region"], lines)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [spec.name for spec in registry.specs()]
    parser.add_argument("--networks", nargs="+", default=names, choices=names, metavar="NAME", help="default: all")
    parser.add_argument("--jobs", type=int, default=1, help="networks at a time, each on one core (default: 1)")
    parser.add_argument("--out", type=Path, help="JSON file, written after every network; others' results are kept")
    parser.add_argument("--recipe", nargs="+", type=setting, default=[], metavar="FIELD=VALUE", help="another recipe")
    help_seeds = f"of the initial weights; default: {SEED}, and for {', '.join(VARIED)} also {FURTHER_SEEDS}"
    parser.add_argument("--seeds", nargs="+", type=int, help=help_seeds)
    args = parser.parse_args()
    if args.out and (args.recipe or args.seeds):
        parser.error("--out keeps what networks learn with their own recipe and seeds; leave out --recipe and --seeds")
    runs = [Run(name, seed) for name in args.networks for seed in args.seeds or seeds_of(name)]
    results = json.loads(args.out.read_text())["rows"] if args.out and args.out.exists() else []
    failed = []
    for learned in tqdm(overfit_all(runs, args.jobs, dict(args.recipe)), "networks", len(runs)):
        print("\t".join([f"seed {learned.seed}", *row(asdict(learned))]), flush=True)
        failed += [] if learned.passed else [Run(learned.network, learned.seed)]
        results = merged(results, asdict(learned))
        if args.out:
            save(results, args.out)
    print(f"{len(runs) - len(failed)} of {len(runs)} reached a Dice of {GOAL}; not: {failed or 'none'}")
    return int(bool(failed))


def save(results: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Writes the JSON file and, beside it, the tables for the documents."""
    facts = {"recipe": RECIPE, "exceptions": EXCEPTIONS, "steps": STEPS, "goal": GOAL, "phantom": PHANTOM}
    record.write_json(path, results, **facts)
    path.with_suffix(".md").write_text(f"{markdown(results)}\n\n{ranges(results)}\n", encoding="utf-8")


def seeds_of(network: str) -> tuple[int, ...]:
    """The seeds of a network's initialisations in the table."""
    return (SEED, *FURTHER_SEEDS) if network in VARIED else (SEED,)


def merged(results: Sequence[Mapping[str, Any]], new: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The results with a new one in its place, in the registry's order."""
    names = [spec.name for spec in registry.specs()]
    kept = [r for r in results if (r["network"], r["seed"]) != (new["network"], new["seed"])]
    return sorted([*kept, new], key=lambda r: (names.index(r["network"]), r["seed"]))


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


def overfit_all(runs: Iterable[Run], jobs: int, changes: dict[str, str | float]) -> Iterator[Learned]:
    """Each run in a process of its own with one thread, in the order in which they end."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, torch.set_num_threads, (1,), max_tasks_per_child=1) as pool:
        tasks = [pool.submit(overfit, run, **changes) for run in runs]
        try:
            yield from (task.result() for task in as_completed(tasks))
        finally:  # an error waits for the networks that run, not for those that wait
            pool.shutdown(cancel_futures=True)


if __name__ == "__main__":
    sys.exit(main())
