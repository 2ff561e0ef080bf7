"""Does the modality that alone shows the tumour come first? For each seed a tiny network is trained, and explained.

    python benchmarks/contributions.py [--seeds N]

A phantom of 16^3 voxels has a bright ball in noise. One of four modalities, another one for each seed, shows the case's
own ball, each other modality that of another case, so that all have the same statistics and one carries the label. The
network is UNet3D XS on three stages, trained for some tens of steps; held-out phantoms are explained through nnU-Net's
predictor. Writes ``benchmarks/results/contributions.json``; the exit code is 1 if another modality came first.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a script's own package is not on the path

from benchmarks import record  # noqa: E402 - needs the path above
from nnunet_ext.explain.baselines import zero  # noqa: E402 - see above
from nnunet_ext.explain.cases import Case  # noqa: E402 - see above
from nnunet_ext.explain.choices import BASELINES, VALUES  # noqa: E402 - see above
from nnunet_ext.explain.contributions import Game, contributions  # noqa: E402 - see above
from nnunet_ext.explain.regions import regions_of  # noqa: E402 - see above
from nnunet_ext.explain.shapley import ranking  # noqa: E402 - see above
from nnunet_ext.networks import registry  # noqa: E402 - see above
from tests.trainers import workspace  # noqa: E402 - see above

RESULT = record.RESULTS / "contributions.json"
MODALITIES = workspace.FOUR
SIDE = 16
BALLS, HELD_OUT = 24, 1
STEPS, BATCH, RATE = 30, 3, 5e-3
BRIGHTNESS = 3.0
LABELS = {"background": 0, "tumor": 1}
TRAINER = "nnUNetTrainer_UNet3D_XS"


@dataclass(frozen=True)
class Phantoms:
    """Images (N, Z, Y, X), each normalised as nnU-Net does it, and the balls in them."""

    images: Tensor
    masks: Tensor


@dataclass(frozen=True)
class Explained:
    """A seed: the planted modality, and its mean contributions by value function and baseline, (M,) each."""

    seed: int
    planted: int
    means: Mapping[tuple[str, str], tuple[float, ...]]

    def first(self, key: tuple[str, str]) -> bool:
        """Whether the planted modality comes first."""
        return ranking(self.means[key])[0] == self.planted


def phantoms(seed: int, number: int = BALLS) -> Phantoms:
    """Balls of 3 to 5 voxels' radius in noise of unit spread."""
    rng = np.random.default_rng(seed)
    grid = np.indices((SIDE,) * 3)
    masks = np.zeros((number, SIDE, SIDE, SIDE), bool)
    for mask in masks:
        centre, radius = rng.uniform(4, SIDE - 4, (3, 1, 1, 1)), rng.uniform(3, 5)
        mask[:] = ((grid - centre) ** 2).sum(0) < radius**2
    images = rng.normal(size=masks.shape) + BRIGHTNESS * masks
    images -= images.mean((1, 2, 3), keepdims=True)
    images /= images.std((1, 2, 3), keepdims=True)
    return Phantoms(torch.tensor(images, dtype=torch.float32), torch.tensor(masks))


def planted(images: Tensor, modality: int, generator: torch.Generator) -> Tensor:
    """(N, 4, Z, Y, X): one modality shows the case, each other one somebody else."""
    number = len(images)
    # shifted by at least one, so that no other modality shows the case itself
    shifts = torch.randperm(number - 1, generator=generator)[: len(MODALITIES)] + 1
    shown = [images if m == modality else images.roll(int(shifts[m]), 0) for m in range(len(MODALITIES))]
    return torch.stack(shown, 1)


def dataset_json() -> dict[str, Any]:
    """Of one class."""
    found = {**workspace.dataset_json(MODALITIES), "labels": LABELS}
    return {key: value for key, value in found.items() if key != "regions_class_order"}


def trained(data: Phantoms, modality: int, seed: int) -> nn.Module:
    """The network after some tens of steps on phantoms of which one modality shows the ball."""
    torch.manual_seed(seed)
    plan = workspace.plans(len(MODALITIES))["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    network: Any = registry.build(registry.find("unet3d")[0], len(MODALITIES), len(LABELS), plan, size="XS")
    network.apply(network.initialize)
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(network.parameters(), RATE)
    for _ in range(STEPS):
        x = planted(data.images, modality, generator)  # other companions in every step
        chosen = torch.randperm(len(x), generator=generator)[:BATCH]
        logits = network(x[chosen])
        odds, truth = logits[:, 1] - logits[:, 0], data.masks[chosen].float()
        optimiser.zero_grad()
        loss = binary_cross_entropy_with_logits(odds, truth) + 1 - soft_dice(odds.sigmoid(), truth)
        loss.backward()
        optimiser.step()
    built: nn.Module = network.eval()
    return built


def soft_dice(probability: Tensor, truth: Tensor) -> Tensor:
    """Of a batch."""
    return 2 * (probability * truth).sum() / (probability.sum() + truth.sum())


def predictor_of(network: nn.Module, dataset: Mapping[str, Any], trainer: str = TRAINER) -> nnUNetPredictor:
    """nnU-Net's predictor with a network that is in no file; on the CPU, without mirroring."""
    predictor = nnUNetPredictor(
        use_mirroring=False, perform_everything_on_device=False, device=torch.device("cpu"), allow_tqdm=False
    )
    manager = PlansManager(workspace.plans(len(dataset["channel_names"])))
    configuration = manager.get_configuration("3d_fullres")
    predictor.manual_initialization(
        network, manager, configuration, [network.state_dict()], dict(dataset), trainer, None
    )
    return predictor


def properties(shape: Sequence[int]) -> dict[str, Any]:
    """nnU-Net's, of a volume that was neither cropped nor resampled."""
    return {
        "spacing": [1.0] * 3,
        "shape_before_cropping": list(shape),
        "bbox_used_for_cropping": [[0, n] for n in shape],
        "shape_after_cropping_and_before_resampling": list(shape),
    }


def explained(seed: int) -> Explained:
    """Trains a network on phantoms of this seed and explains it on others."""
    modality, data = seed % len(MODALITIES), phantoms(2 * seed)
    network = trained(data, modality, seed)
    test = phantoms(2 * seed + 1, len(MODALITIES) + HELD_OUT)
    images = planted(test.images, modality, torch.Generator().manual_seed(seed))[:HELD_OUT]
    mean = data.images.mean(0).expand(len(MODALITIES), -1, -1, -1)  # every modality shows every ball in training
    predictor = predictor_of(network, dataset_json())
    games: list[Game] = []
    for index, image in enumerate(images):
        truth: NDArray[Any] = test.masks[index].numpy().astype(np.uint8)
        games += contributions(
            predictor,
            Case(f"phantom{index}", image, properties(image.shape[1:])),
            truth,
            regions=regions_of(predictor),
            values=VALUES,
            baselines={"zero": zero, "mean": lambda _shape: mean},
        )
    return Explained(seed, modality, _means(games))


def _means(games: Sequence[Game]) -> dict[tuple[str, str], tuple[float, ...]]:
    found = {}
    for value in VALUES:
        for baseline in BASELINES:
            of = [game.shapley() for game in games if (game.value, game.baseline) == (value, baseline)]
            found[value, baseline] = tuple(map(float, np.mean(of, 0)))
    return found


def main() -> int:
    """Runs all seeds, writes the results, prints how often the planted modality came first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=100, metavar="N", help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=RESULT, metavar="FILE", help="default: benchmarks/results")
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = [explained(seed) for seed in tqdm(range(args.seeds), unit="seed", disable=None)]
    keys = [(value, baseline) for value in VALUES for baseline in BASELINES]
    first = {
        f"{value}, baseline {baseline}": sum(e.first((value, baseline)) for e in found) for value, baseline in keys
    }
    rows = [
        {"seed": e.seed, "planted": MODALITIES[e.planted], "value": value, "baseline": baseline}
        | {"shapley": dict(zip(MODALITIES, e.means[value, baseline], strict=True))}
        for e in found
        for value, baseline in keys
    ]
    record.write_json(args.out, rows, seeds=args.seeds, planted_first=first)
    for name, count in first.items():
        print(f"{name}: the planted modality comes first in {count} of {args.seeds} seeds")
    return 0 if all(count == args.seeds for count in first.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
