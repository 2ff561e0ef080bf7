"""Finding and building declared networks. Torch is imported only when a network is built."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import cache, partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from nnunet_ext.networks.case_zoo import CASE_ZOO, TRAINER
from nnunet_ext.networks.spec import DEFAULT_SIZE, NetworkSpec
from nnunet_ext.networks.zoo import ZOO

if TYPE_CHECKING:
    from torch import nn

    from nnunet_ext.networks.case import CaseNetwork
    from nnunet_ext.networks.topology import Topology

PREFIX = "nnUNetTrainer_"


@cache
def specs() -> tuple[NetworkSpec, ...]:
    """All declared networks that segment, in the order of the zoo."""
    names = [name for spec in (*ZOO, *CASE_ZOO) for name in (spec.name, spec.trainer)]
    assert len(set(names)) == len(names), "a registry or trainer name is declared twice"
    assert not any("__" in spec.trainer for spec in (*ZOO, *CASE_ZOO)), "nnU-Net splits folder names on two underscores"
    return ZOO


def case_specs() -> tuple[NetworkSpec, ...]:
    """All networks for case-level targets: the encoders of :func:`specs`, in their order, then further ones."""
    return CASE_ZOO


def segmenting(spec: NetworkSpec) -> NetworkSpec | None:
    """The network whose encoder a network for case-level targets has; None where none of ours segments with it."""
    return next((other for other in specs() if TRAINER + other.trainer == spec.trainer), None)


def default_size(spec: NetworkSpec) -> str | None:
    """The size that a name without suffix means, or None where the size is always written."""
    return DEFAULT_SIZE if DEFAULT_SIZE in spec.sizes else None


def full_names(spec: NetworkSpec) -> dict[str, str]:
    """Every spelling of the network with a size, registry and trainer names alike -> size."""
    spellings = {}
    for base in (spec.name, spec.trainer, PREFIX + spec.trainer):
        for size in spec.sizes:
            spellings[f"{base}_{size}"] = size
        if (default := default_size(spec)) is not None:
            spellings[base] = default
    return spellings


def find(name: str) -> tuple[NetworkSpec, str]:
    """The network and the size that a registry name or a trainer's name means; the size's case does not matter.

    Raises:
        ValueError: for an unknown name, with the nearest ones.
    """
    spellings = {k.lower(): (spec, size) for spec in (*specs(), *case_specs()) for k, size in full_names(spec).items()}
    if name.lower() not in spellings:
        near = get_close_matches(name.lower(), spellings, n=3)
        hint = f"nearest: {', '.join(near)}" if near else "`nnunet_ext list` shows all"
        raise ValueError(f"There is no network {name!r}; {hint}.")
    return spellings[name.lower()]


def build(
    spec: NetworkSpec,
    input_channels: int,
    num_classes: int,
    plan: Mapping[str, Any],
    *,
    size: str | None = None,
    image_channels: int | None = None,
    patch_size: Sequence[int] | None = None,
    deep_supervision: bool = False,
) -> "nn.Module":
    """Builds a network from the plan's architecture (``arch_kwargs`` of a plans file); weights are not initialised.

    It refuses weights of another network, size or version; see :mod:`.weights`.

    Args:
        spec: the declaration.
        input_channels: all channels of the input, in nnU-Net's order: image, coordinates, previous stage.
        num_classes: number of logit maps, or of outputs for a case.
        plan: number of stages, strides, kernel sizes, operators; see :class:`Topology`.
        size: one of ``spec.sizes``; None means the default one.
        image_channels: how many of the channels are image; all if None.
        patch_size: the plan's patch in voxels (z, y, x), where known.
        deep_supervision: whether forward returns the list of logits.

    Raises:
        ValueError: unknown size, wrong number of dimensions or channels, a plan that does not fit.
    """
    from nnunet_ext.networks.topology import Topology

    size = size or default_size(spec)
    if size not in spec.sizes:
        raise ValueError(f"{spec.name} has the sizes {', '.join(spec.sizes)}, not {size!r}.")
    topology = Topology.from_plan(plan, patch_size)
    if topology.dims not in spec.dimensions:
        wanted = " or ".join(f"{d}D" for d in spec.dimensions)
        raise ValueError(
            f"{spec.trainer} is a {wanted} network, but the configuration is {topology.dims}D; "
            f"choose another configuration (-c) or another network."
        )
    options = {**spec.options, **spec.size_options.get(size, {})}
    if spec.branches:
        options["branches"] = spec.branches
    options |= {"width": spec.widths[size], "image_channels": image_channels}
    if spec.task.decodes:
        network = class_of(spec)(input_channels, num_classes, topology, deep_supervision=deep_supervision, **options)
    else:
        network = _pooled(spec, input_channels, num_classes, topology, options)
    network.title = f"{spec.trainer} in size {size}"
    return network


def class_of(spec: NetworkSpec) -> Any:
    """The class that a declaration names."""
    path = spec.network if spec.network.startswith("nnunet_ext.") else f"nnunet_ext.networks.{spec.network}"
    module, _, attribute = path.rpartition(".")
    return getattr(import_module(module), attribute)


def _pooled(
    spec: NetworkSpec, input_channels: int, outputs: int, topology: "Topology", options: dict[str, Any]
) -> "CaseNetwork":
    """The network of a case-level task."""
    from nnunet_ext.networks.case import CaseNetwork

    network = class_of(spec)
    encoder = network.pooled_encoder(input_channels, topology, scales=spec.pooling.get("scales", 1), **options)
    return CaseNetwork(encoder, outputs, network.initialize, **spec.pooling)


def build_from_arch_kwargs(
    spec: NetworkSpec,
    *,
    input_channels: int,
    num_classes: int,
    deep_supervision: bool = False,
    size: str | None = None,
    image_channels: int | None = None,
    patch_size: Sequence[int] | None = None,
    **plan: Any,
) -> "nn.Module":
    """The same in the form in which nnU-Net calls a class that a plans file names; see :mod:`.models`."""
    return build(
        spec,
        input_channels,
        num_classes,
        plan,
        size=size,
        image_channels=image_channels,
        patch_size=patch_size,
        deep_supervision=deep_supervision,
    )


def constructor(trainer: str) -> partial["nn.Module"] | None:
    """The constructor of the network with this trainer name (``DualBranchGhost``), or None."""
    return next((partial(build_from_arch_kwargs, spec) for spec in specs() if spec.trainer == trainer), None)
