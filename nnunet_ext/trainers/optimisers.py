"""Optimisers, which parameters they decay, and the schedule that sets their rate once an epoch."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from nnunet_ext.trainers.recipe import Recipe

OPTIMISERS: Mapping[str, Callable[..., Optimizer]] = {
    "SGD": lambda groups, **options: SGD(groups, momentum=0.99, nesterov=True, **options),
    "Adam": Adam,
    "AdamW": AdamW,
}
DECAY_ALL = ("SGD",)  # nnU-Net's decays norms and biases too
DECAYED = (_ConvNd, nn.Linear)  # of these the kernel or matrix; of anything else nothing


def optimiser_for(recipe: Recipe, network: nn.Module) -> tuple[Optimizer, "EpochSchedule"]:
    """The recipe's optimiser for a network and its schedule, as nnU-Net's ``configure_optimizers`` gives them."""
    make = OPTIMISERS[recipe.optimiser]
    optimiser = make(parameter_groups(recipe, network), lr=recipe.initial_lr, weight_decay=recipe.weight_decay)
    return optimiser, EpochSchedule(optimiser, recipe)


def parameter_groups(recipe: Recipe, network: nn.Module) -> list[dict[str, Any]]:
    """Every parameter in exactly one group; Adam and AdamW have a second one, of what is not decayed.

    Decay bounds what grows, the weights (Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101). Norms, biases,
    layer scales and position tables have a meaning of their own at zero, so ConvNeXt and Swin leave them alone too.
    """
    parameters = list(network.parameters())
    if recipe.optimiser in DECAY_ALL:
        return [{"params": parameters}]
    decayed = {id(parameter) for parameter in weights(network)}
    kept = [p for p in parameters if id(p) not in decayed]
    return [{"params": [p for p in parameters if id(p) in decayed]}, {"params": kept, "weight_decay": 0.0}]


def weights(network: nn.Module) -> Iterator[Tensor]:
    """Kernels of convolutions and matrices of linear maps: what a decay is meant for."""
    for module in network.modules():
        if isinstance(module, DECAYED):
            yield module.weight


class EpochSchedule(LRScheduler):
    """Sets the recipe's learning rate of the epoch that nnU-Net's trainer passes to ``step``.

    Written here because nnU-Net's schedulers have no warm-up in one object and torch's deprecate an explicit epoch.
    """

    def __init__(self, optimizer: Optimizer, recipe: Recipe) -> None:
        self.recipe = recipe
        super().__init__(optimizer)

    def step(self, epoch: int | None = None) -> None:
        """Sets the learning rate of ``epoch``; the constructor of the base class calls it without one."""
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate(self.last_epoch)
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]
