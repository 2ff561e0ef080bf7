"""The cost of a declared network: from its declaration, a plan and an input to the prediction.

spec, size = registry.find("nnUNetTrainer_DualBranchGhost_M")
memory = training_memory(spec, size, arch_kwargs, (2, 4, 128, 128, 128), outputs=3)
memory.total  # bytes
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from nnunet_ext.networks import registry
from nnunet_ext.networks.spec import NetworkSpec
from nnunet_ext.profiling.cost import Cost, Memory
from nnunet_ext.profiling.predict import follow_training, memory, predict


def network_cost(
    spec: NetworkSpec,
    size: str | None,
    plan: Mapping[str, Any],
    input_shape: Sequence[int],
    outputs: int,
    **options: Any,
) -> Cost:
    """Everything that is known of a network.

    Args:
        spec: the network.
        size: one of its sizes; None for the default one.
        plan: ``arch_kwargs`` of a plans file: strides, kernel sizes, operators.
        input_shape: (B, C, Z, Y, X) or (B, C, Y, X); the axes are the patch.
        outputs: number of logit maps.
        options: of :func:`nnunet_ext.profiling.predict.predict`; the optimiser is the recipe's if none is named.

    Raises:
        ValueError: the network cannot be built from this plan for this patch.
    """
    network = on_meta(spec, size, plan, input_shape, outputs)
    return predict(network, input_shape, **{"optimiser": optimiser_of(spec), **options})


def training_memory(
    spec: NetworkSpec,
    size: str | None,
    plan: Mapping[str, Any],
    input_shape: Sequence[int],
    outputs: int,
    **options: Any,
) -> Memory:
    """The peak of a training step alone, which takes half the time; arguments as :func:`network_cost`."""
    network = on_meta(spec, size, plan, input_shape, outputs)
    return memory(follow_training(network, input_shape, **{"optimiser": optimiser_of(spec), **options})[0])


def on_meta(
    spec: NetworkSpec, size: str | None, plan: Mapping[str, Any], input_shape: Sequence[int], outputs: int
) -> nn.Module:
    """The network without memory, with deep supervision."""
    with torch.device("meta"):
        return registry.build(
            spec, input_shape[1], outputs, plan, size=size, patch_size=input_shape[2:], deep_supervision=True
        )


def optimiser_of(spec: NetworkSpec) -> str:
    """The optimiser of the family's recipe; nnU-Net's if it names none."""
    return str(spec.recipe.get("optimiser", "SGD"))
