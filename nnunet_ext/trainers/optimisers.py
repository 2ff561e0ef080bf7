"""Optimisers, which parameters they decay, and the schedule that sets their rate once an epoch."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from nnunet_ext.trainers.freezing import freeze_for_good
from nnunet_ext.trainers.recipe import Recipe
from nnunet_ext.trainers.schedules import PLATEAU, PLATEAU_FACTOR, PLATEAU_PATIENCE

OPTIMISERS: Mapping[str, Callable[..., Optimizer]] = {
    "SGD": lambda groups, **options: SGD(groups, momentum=0.99, nesterov=True, **options),
    "Adam": Adam,
    "AdamW": AdamW,
}
DECAY_ALL = ("SGD",)  # nnU-Net's decays norms and biases too
DECAYED = (_ConvNd, nn.Linear)  # of these the kernel or matrix; of anything else nothing
ENCODER = "encoder"  # the key of a group whose rate follows the encoder's share

History = Callable[[], Sequence[float]]  # EMA of the pseudo Dice of the epochs until now


def optimiser_for(recipe: Recipe, network: nn.Module, history: History = tuple) -> tuple[Optimizer, "EpochSchedule"]:
    """The recipe's optimiser for a network and its schedule, as nnU-Net's ``configure_optimizers`` gives them."""
    freeze_for_good(network, recipe)
    make = OPTIMISERS[recipe.optimiser]
    optimiser = make(parameter_groups(recipe, network), lr=recipe.initial_lr, weight_decay=recipe.weight_decay)
    return optimiser, EpochSchedule(optimiser, recipe, history)


def parameter_groups(recipe: Recipe, network: nn.Module) -> list[dict[str, Any]]:
    """Every parameter in exactly one group: what is decayed and what is not; the encoder apart if its rate differs.

    Decay bounds what grows, the weights (Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101). Norms, biases,
    layer scales and position tables have a meaning of their own at zero, so ConvNeXt and Swin leave them alone too.
    """
    all_decayed = recipe.optimiser in DECAY_ALL
    decayed = {id(p) for p in (network.parameters() if all_decayed else weights(network))}
    encoder = {id(p) for p in network.encoder.parameters()} if recipe.encoder_apart else set()  # type: ignore[union-attr]
    groups = []
    for first, kept in product((False, True) if encoder else (False,), (False,) if all_decayed else (False, True)):
        members = [p for p in network.parameters() if (id(p) in encoder, id(p) not in decayed) == (first, kept)]
        options = {"weight_decay": 0.0} if kept else {}
        groups.append({"params": members, **options, **({ENCODER: True} if first else {})})
    return groups


def weights(network: nn.Module) -> Iterator[Tensor]:
    """Kernels of convolutions and matrices of linear maps: what a decay is meant for."""
    for module in network.modules():
        if isinstance(module, DECAYED):
            yield module.weight


class EpochSchedule(LRScheduler):
    """Sets the recipe's learning rate of the epoch that nnU-Net's trainer passes to ``step``.

    Written here because nnU-Net's schedulers have no warm-up in one object and torch's deprecate an explicit epoch. It
    has no state: a plateau is found again in the log, which the checkpoint holds.
    """

    def __init__(self, optimizer: Optimizer, recipe: Recipe, history: History = tuple) -> None:
        self.recipe, self.history = recipe, history
        super().__init__(optimizer)

    def step(self, epoch: int | None = None) -> None:
        """Sets the learning rate of ``epoch``; the constructor of the base class calls it without one."""
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        plateau = 1.0
        if self.recipe.schedule == PLATEAU:
            plateau = plateau_share(self.history()[self.recipe.warmup_epochs : self.last_epoch])
        rate = self.recipe.learning_rate(self.last_epoch, plateau)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * self.recipe.encoder_share(self.last_epoch) if ENCODER in group else rate
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]


def plateau_share(history: Sequence[float]) -> float:
    """The share of the rate that is left after these values of the pseudo Dice, by torch's own rule."""
    optimiser = SGD([torch.zeros(1)], lr=1.0)
    rule = ReduceLROnPlateau(optimiser, mode="max", factor=PLATEAU_FACTOR, patience=PLATEAU_PATIENCE)
    for value in history:
        rule.step(value)
    return float(optimiser.param_groups[0]["lr"])
