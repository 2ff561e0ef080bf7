"""From the names and the input that a user gives to models that can be built."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from math import prod
from pathlib import Path
from typing import Any

from torch import nn

from benchmarks.costs.peers import PEERS, build_peer
from nnunet_ext.networks import registry
from nnunet_ext.networks.cost_table import trainer_name
from nnunet_ext.networks.spec import COORDINATES, NetworkSpec
from nnunet_ext.networks.stock_plan import INPUT_CHANNELS, OUTPUT_CHANNELS, PATCHES, stock_plan
from nnunet_ext.planning.memory import TrainingMemory
from nnunet_ext.trainers.grammar import TrainerName, parse
from nnunet_ext.trainers.words import changes_of_memory

ALL, ALL_PEERS = "all", "peers"
MIN_EDGE = 4  # nnU-Net's smallest edge of a feature map at the bottleneck


@dataclass(frozen=True)
class Input:
    """What the networks are given.

    Attributes:
        patch: in voxels (z, y, x); None for the plan's of BraTS, or for what a network has of its own.
        batch: samples; None for the plan's.
        channels, outputs: of the networks.
        plan: ``arch_kwargs`` of a plans file; None for nnU-Net's topology for the patch at 1 mm.
    """

    patch: tuple[int, ...] | None = None
    batch: int | None = None
    channels: int = INPUT_CHANNELS
    outputs: int = OUTPUT_CHANNELS
    plan: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Model:
    """One row of a table: a network in one size with its input.

    Attributes:
        name: registry name, or a peer's.
        size: empty for peers.
        trainer: nnU-Net's name of the trainer, with its words; empty for peers.
        input_shape: (B, C, Z, Y, X) or (B, C, Y, X).
        outputs: number of logit maps.
        optimiser: of its recipe.
        plan: ``arch_kwargs``.
        further_channels: behind the image's, of a word.
        deep_supervision: whether it is trained with it.
    """

    name: str
    size: str
    trainer: str
    input_shape: tuple[int, ...]
    outputs: int
    optimiser: str
    plan: Mapping[str, Any]
    further_channels: int = 0
    deep_supervision: bool = True

    @property
    def label(self) -> str:
        """For tables and pictures."""
        words = self.trainer.removeprefix(registry.PREFIX).split("_")[1:]
        return " ".join(filter(None, (self.name, self.size, *(word for word in words if word != self.size))))

    def build(self) -> nn.Module:
        """The network with deep supervision, on the current default device."""
        channels, patch = self.input_shape[1], self.input_shape[2:]
        if self.name in PEERS:
            return build_peer(PEERS[self.name], channels, self.outputs, patch, self.plan.get("strides", ()))
        spec, size = registry.find(f"{self.name}_{self.size}")
        return registry.build(
            spec,
            channels,
            self.outputs,
            self.plan,
            size=size,
            image_channels=channels - spec.channels(0) - self.further_channels,
            patch_size=patch,
            deep_supervision=self.deep_supervision,
        )


def choose(names: Sequence[str], given: Input) -> list[Model]:
    """The models that the names mean; without names every network of the registry in its default size.

    Args:
        names: registry, trainer and peer names, ``all`` (the registry in all sizes), ``peers``.
        given: the input.

    Raises:
        ValueError: an unknown name or an impossible patch.
    """
    chosen: dict[tuple[str, str, str], Model] = {}
    for name in names or [f"{s.name}_{registry.default_size(s) or s.sizes[0]}" for s in registry.specs()]:
        for model in _models(name, given):
            chosen[model.name, model.size, model.trainer] = model
    return list(chosen.values())


def read_plans(path: Path, configuration: str) -> tuple[dict[str, Any], tuple[int, ...], int]:
    """``arch_kwargs``, patch and batch of a configuration of an nnU-Net plans file.

    Raises:
        ValueError: no such file, or no such configuration in it.
    """
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    try:
        plans = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path} is no readable plans file ({error}); give one that nnU-Net's planner wrote."
        ) from error
    if configuration not in plans.get("configurations", {}):
        found = ", ".join(plans.get("configurations", {})) or "none"
        raise ValueError(f"{path} has no configuration {configuration!r}; it has: {found}.")
    chosen = PlansManager(plans).get_configuration(configuration)
    return chosen.network_arch_init_kwargs, tuple(chosen.patch_size), chosen.batch_size


def _models(name: str, given: Input) -> list[Model]:
    if name == ALL:
        return [_registry_model(spec, size, given) for spec in registry.specs() for size in spec.sizes]
    if name == ALL_PEERS:
        return [_peer_model(peer, given) for peer in PEERS]
    if name in PEERS:
        return [_peer_model(name, given)]
    for spec in registry.specs():
        if registry.default_size(spec) is None and name.lower() in (spec.name, spec.trainer.lower()):
            return [_registry_model(spec, spec.sizes[0], given)]
    try:
        return [_registry_model(*registry.find(name), given)]
    except ValueError as error:
        # a name of a trainer with words; parse says what is wrong with one of ours
        if parsed := parse(registry.PREFIX + name.removeprefix(registry.PREFIX)):
            return [_with_words(name, parsed, given)]
        near = get_close_matches(name, PEERS, n=3, cutoff=0.75)
        if not near:
            raise
        raise ValueError(f"There is no network {name!r}; nearest: {', '.join(near)}.") from error


def _with_words(name: str, parsed: TrainerName, given: Input) -> Model:
    """The network of a trainer whose words change its recipe; ValueError where that changes what nothing predicts."""
    memory = TrainingMemory.of(parsed.spec, parsed.size, changes_of_memory(parsed.recipe))
    if (memory.precision, memory.accumulation) != ("device", 1):
        raise ValueError(f"{name}: give --precision and --accumulation in place of these words, for all rows alike.")
    plain = _registry_model(parsed.spec, parsed.size, given)
    further = COORDINATES * parsed.recipe.coordinates * (not parsed.spec.detector)  # whose channels hold them already
    batch, channels, *patch = plain.input_shape
    return replace(
        plain,
        trainer=registry.PREFIX + name.removeprefix(registry.PREFIX),
        input_shape=(batch, channels + further, *patch),
        optimiser=memory.optimiser,
        further_channels=further,
        deep_supervision=memory.deep_supervision,
    )


def _registry_model(spec: NetworkSpec, size: str, given: Input) -> Model:
    dims = max(spec.dimensions)
    patch = spec.shown_size or (given.patch or PATCHES[3])[-dims:]
    shape = (given.batch or 2, spec.channels(given.channels), *patch)
    optimiser = str(spec.recipe.get("optimiser", "SGD"))
    plan = topology(patch) if spec.shown_size else _plan_for(patch, given)
    return Model(spec.name, size, trainer_name(spec, size), shape, spec.outputs(given.outputs), optimiser, plan)


def _peer_model(name: str, given: Input) -> Model:
    peer = PEERS[name]
    patch = given.patch or peer.patch
    shape = (given.batch or peer.batch, given.channels, *patch)
    plan = _plan_for(patch, given) if peer.plan else {}
    if peer.divisor is not None:
        _check(patch, [peer.divisor] * len(patch), f"for {name}")
    return Model(name, "", "", shape, given.outputs, "SGD" if peer.plan else "AdamW", plan)


def _plan_for(patch: Sequence[int], given: Input) -> Mapping[str, Any]:
    """The user's plan; nnU-Net's topology where that is for images of another number of axes."""
    if given.plan is None or len(given.plan["strides"][0]) != len(patch):
        return topology(patch)
    divisors = [prod(steps) for steps in zip(*given.plan["strides"], strict=True)]
    _check(patch, divisors, "with the strides of the plan")
    return given.plan


def topology(patch: Sequence[int]) -> dict[str, Any]:
    """nnU-Net's plan for a patch of 1 mm voxels: its own rule for strides and kernels, the rest as for BraTS.

    Raises:
        ValueError: the strides do not divide the patch, or it is too small for any.
    """
    from nnunetv2.experiment_planning.experiment_planners.network_topology import get_pool_and_conv_props

    _, strides, kernels, _, divisors = get_pool_and_conv_props([1.0] * len(patch), list(patch), MIN_EDGE, 999)
    if len(strides) < 2:  # a short axis alone is legal, it is left as it is
        raise ValueError(
            f"The patch {list(patch)} is too small to be halved on any axis; one edge must be at least {2 * MIN_EDGE}."
        )
    _check(patch, [int(d) for d in divisors], "with nnU-Net's strides for it")
    return {**stock_plan(len(patch), len(strides)), "strides": strides, "kernel_sizes": kernels}


def _check(patch: Sequence[int], divisors: Sequence[int], reason: str) -> None:
    legal = [-(-p // d) * d for p, d in zip(patch, divisors, strict=True)]
    if legal != list(patch):
        raise ValueError(
            f"The patch {list(patch)} is impossible {reason}: its axes must divide by {list(divisors)}; "
            f"the next legal patch is {legal}."
        )
