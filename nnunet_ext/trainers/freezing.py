"""What of an encoder stays as it is: all of it in the first epochs, and afterwards the stages before the last ones.

Frozen is what no step changes: parameters, and the running statistics of normalisations as well, which a network in
training would update without any gradient.
"""

from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim import Optimizer

from nnunet_ext.trainers.recipe import Recipe


def trained_stages(encoder: Any, count: int) -> list[nn.Module]:
    """The modules of the last stages of an encoder, which names those of each, high to low, in ``stage_modules``.

    Raises:
        ValueError: it has not more stages than ``count``.
    """
    stages: list[list[nn.Module]] = encoder.stage_modules()
    if count >= len(stages):
        fewer = f"ask for fewer than {len(stages)}" if len(stages) > 1 else "leave the word out"
        raise ValueError(
            f"The encoder {type(encoder).__name__} has {len(stages)} {'stages' if len(stages) > 1 else 'stage'}, of "
            f"which Unfreeze{count} would leave none frozen; {fewer}."
        )
    return [module for stage in stages[-count:] for module in stage]


def freeze_for_good(network: Any, recipe: Recipe) -> None:
    """Parameters of the stages that are never trained need no gradients from now on: memory and time of them are saved.

    Raises:
        ValueError: as :func:`trained_stages`.
    """
    if recipe.unfrozen_stages is None:
        return
    network.encoder.requires_grad_(False)
    for module in trained_stages(network.encoder, recipe.unfrozen_stages):
        module.requires_grad_(True)


def frozen_modules(network: Any, recipe: Recipe, epoch: int) -> Iterator[nn.Module]:
    """All modules of the encoder that an epoch, counted from 0, does not train."""
    whole = epoch < recipe.frozen_epochs
    if not whole and recipe.unfrozen_stages is None:
        return
    kept = [] if whole else trained_stages(network.encoder, recipe.unfrozen_stages or 0)
    trained = {id(inner) for module in kept for inner in module.modules()}
    yield from (module for module in network.encoder.modules() if id(module) not in trained)


def hold_statistics(network: Any, recipe: Recipe, epoch: int) -> None:
    """In a network in training, normalisations of what is frozen use the statistics that they have and keep them."""
    for module in frozen_modules(network, recipe, epoch):
        if isinstance(module, _NormBase) and module.running_mean is not None:
            module.eval()


def forget_gradients(optimiser: Optimizer) -> None:
    """Drops gradients of groups with the rate 0: they would fill momentum, and count in the norm of all."""
    for group in optimiser.param_groups:
        if group["lr"] == 0:
            for parameter in group["params"]:
                parameter.grad = None
