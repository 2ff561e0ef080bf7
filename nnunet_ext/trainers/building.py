"""From a trainer's name to its network without nnU-Net's trainer, whose import takes prediction seconds."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from nnunet_ext.coordinates.configuration import set_coordinates
from nnunet_ext.coordinates.field import AXES, VERSION
from nnunet_ext.networks import registry
from nnunet_ext.networks.spec import NetworkSpec
from nnunet_ext.networks.tasks import CASE_LEVEL
from nnunet_ext.trainers.grammar import parse
from nnunet_ext.trainers.recipe import Recipe
from nnunet_ext.trainers.threads import set_threads

if TYPE_CHECKING:
    from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager
    from torch import nn


def build_network(
    spec: NetworkSpec,
    size: str,
    recipe: Recipe,
    configuration: "ConfigurationManager",
    input_channels: int,
    output_channels: int,
    deep_supervision: bool,
) -> "nn.Module":
    """Builds and initialises a network for nnU-Net's configuration.

    Args:
        spec: the network,
        size: its size and
        recipe: its training, as the trainer's name says.
        configuration: is made one that feeds coordinates, or not.
        input_channels: as nnU-Net counts them, without coordinates.
        output_channels: number of logit maps.
        deep_supervision: whether forward returns the list of logits; with ``NoDS`` it never does.
    """
    set_threads()
    set_coordinates(configuration, recipe.coordinates)
    network: Any = registry.build(
        spec,
        input_channels + AXES * recipe.coordinates,
        output_channels,
        configuration.network_arch_init_kwargs,
        size=size,
        image_channels=len(configuration.normalization_schemes),
        patch_size=configuration.patch_size,
        deep_supervision=deep_supervision and recipe.deep_supervision,
    )
    if recipe.coordinates:
        network._version = VERSION  # torch stores a module's version with its weights
    network.apply(network.initialize)
    return adapted(network, recipe)


def adapted(network: Any, recipe: Recipe) -> "nn.Module":
    """The network as a recipe wants it: the heads of its loss, the precision of its forward pass."""
    from nnunet_ext.trainers.precision import compute_in

    if not recipe.deep_supervision:
        keep_one_head(network)
    compute_in(network, recipe.precision)
    built: nn.Module = network
    return built


def keep_one_head(network: Any) -> None:
    """Removes the segmentation layers that only deep supervision uses, which would never get a gradient.

    The other one keeps its place and so its name in checkpoints.
    """
    from torch import nn

    heads = network.decoder.seg_layers
    for index in range(len(heads) - 1):
        heads[index] = nn.Identity()


def network_builder(name: str) -> Callable[..., "nn.Module"] | None:
    """:func:`build_network` for a trainer's name, or None if it is none of ours that segments.

    A case-level trainer's own class says which command predicts with it.

    Raises:
        ValueError: one of our networks with words that are not legal.
    """
    parsed = parse(name)
    if parsed is None or parsed.spec.task is CASE_LEVEL:
        return None
    return partial(build_network, parsed.spec, parsed.size, parsed.recipe)
