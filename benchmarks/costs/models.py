"""From the names and the input that a user gives to models that can be built."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from math import prod
from pathlib import Path
from typing import Any

from torch import nn

from benchmarks.costs.peers import PEERS, build_peer
from nnunet_ext.networks import registry
from nnunet_ext.networks.cost_table import trainer_name
from nnunet_ext.networks.spec import NetworkSpec
from nnunet_ext.networks.stock_plan import INPUT_CHANNELS, OUTPUT_CHANNELS, PATCHES, stock_plan

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
        trainer: nnU-Net's name of the trainer; empty for peers.
        input_shape: (B, C, Z, Y, X) or (B, C, Y, X).
        outputs: number of logit maps.
        optimiser: of its recipe.
        plan: ``arch_kwargs``.
    """

    name: str
    size: str
    trainer: str
    input_shape: tuple[int, ...]
    outputs: int
    optimiser: str
    plan: Mapping[str, Any]

    @property
    def label(self) -> str:
        """For tables and pictures."""
        return f"{self.name} {self.size}".strip()

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
            image_channels=channels - spec.channels(0),
            patch_size=patch,
            deep_supervision=True,
        )


def choose(names: Sequence[str], given: Input) -> list[Model]:
    """The models that the names mean; without names every network of the registry in its default size.

    Args:
        names: registry, trainer and peer names, ``all`` (the registry in all sizes), ``peers``.
        given: the input.

    Raises:
        ValueError: an unknown name or an impossible patch.
    """
    chosen: dict[tuple[str, str], Model] = {}
    for name in names or [f"{s.name}_{registry.default_size(s) or s.sizes[0]}" for s in registry.specs()]:
        for model in _models(name, given):
            chosen[model.name, model.size] = model
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
    try:
        spec, size = registry.find(name)
    except ValueError as error:
        near = get_close_matches(name, PEERS, n=3, cutoff=0.75)
        if not near:
            raise
        raise ValueError(f"There is no network {name!r}; nearest: {', '.join(near)}.") from error
    return [_registry_model(spec, size, given)]


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
