"""How long the runs will take, from what earlier ones of the same network took."""

import json
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from nnunet_ext.evaluation.epochs import PROGRESS, epochs_of
from nnunet_ext.evaluation.runs import SEED
from nnunet_ext.experiments.methods import STOCK, Method
from nnunet_ext.trainers.grammar import parse
from nnunet_ext.trainers.recipe import Recipe

SAME = (
    "coordinates",
    "precision",
    "batch",
    "accumulation",
    "deep_supervision",
    "augmentation",
    "loss",
    "joint",
    "fused",
)
"""Fields of a recipe that change the time of a step."""


@dataclass(frozen=True)
class Pace:
    """Seconds that an epoch takes, validation and saving included, by the number of its iterations.

    Attributes:
        seconds: for each training iteration.
        source: the run it was measured in.
    """

    seconds: float
    source: str

    def of(self, recipe: Recipe) -> float:
        """Seconds of a whole training, without its final validation."""
        return self.seconds * recipe.iterations * recipe.epochs


def pace(method: Method, results: Path, plans: str, configuration: str, device: str) -> Pace | None:
    """The pace of the newest earlier run of the same network, plans, configuration and kind of device.

    Args:
        method: the trainer.
        results: the dataset's folder in nnUNet_results.
        plans: their name.
        configuration: its name.
        device: ``cuda``, ``cpu`` or ``mps``.
    """
    found = [
        (fold.stat().st_mtime, found_pace)
        for fold, recipe in _runs_like(method, results, f"__{plans}__{configuration}")
        if _device_of(fold) in (None, device) and (found_pace := measured(fold, recipe.iterations))
    ]
    return max(found, key=lambda each: each[0])[1] if found else None


def recipe_of(method: Method) -> Recipe | None:
    """What a method trains by; None for another package's trainer."""
    if method.parsed:
        return method.parsed.recipe
    return Recipe() if method.trainer == STOCK else None


def _runs_like(method: Method, results: Path, suffix: str) -> Iterator[tuple[Path, Recipe]]:
    """Folds of trainings whose steps are the same, with the recipe they were trained by."""
    for model in sorted(results.glob(f"*{suffix}")):
        name = SEED.sub("", model.name.removesuffix(suffix))
        recipe = recipe_of(method) if name == method.trainer else _like(method, name)
        if recipe:
            yield from ((fold, recipe) for fold in sorted(model.glob("fold_*")) if fold.is_dir())


def _like(method: Method, name: str) -> Recipe | None:
    try:
        other = parse(name)
    except ValueError:  # a folder of another version's trainer, whose words are no longer legal
        return None
    mine = method.parsed
    if other is None or mine is None or (other.spec.name, other.size) != (mine.spec.name, mine.size):
        return None
    same = all(getattr(other.recipe, field) == getattr(mine.recipe, field) for field in SAME)
    return other.recipe if same else None


def measured(fold: Path, iterations: int) -> Pace | None:
    """The pace of one run, from its progress.jsonl or nnU-Net's log; None before its first epoch has ended."""
    seconds = [float(epoch["seconds"]) for epoch in epochs_of(fold) if epoch["seconds"]]
    if not seconds:
        return None
    steady = seconds[1:] or seconds  # the first epoch starts processes and fills caches
    return Pace(median(steady) / iterations, f"{fold.parent.name}/{fold.name}{_elsewhere(fold)}")


def _elsewhere(fold: Path) -> str:
    """On which other machine a run of ours was, where it says."""
    path = fold / PROGRESS
    first = path.read_text(encoding="utf-8").partition("\n")[0] if path.is_file() else ""
    host = json.loads(first).get("host") if first else None
    return f" on {host}" if host and host != platform.node() else ""


def _device_of(fold: Path) -> str | None:
    """Of a training, from nnU-Net's debug.json."""
    path = fold / "debug.json"
    told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return str(told["device"]).partition(":")[0] if "device" in told else None
