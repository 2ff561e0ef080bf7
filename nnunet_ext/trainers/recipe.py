"""The training recipe: what a trainer's name and its family's declaration change of nnU-Net's training.

Without a word and without a declaration every field has nnU-Net's own value (a test compares them).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import torch
from torch.nn import Parameter
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from nnunet_ext.networks.spec import NetworkSpec

VALIDATION_SHARE = 5  # nnU-Net validates on 50 iterations for 250 of training


@dataclass(frozen=True)
class Recipe:
    """One training recipe.

    Attributes:
        optimiser: ``SGD`` (Nesterov momentum 0.99, nnU-Net's), ``Adam`` or ``AdamW``.
        initial_lr: learning rate after the warm-up, before the decay.
        weight_decay: of the optimiser.
        schedule: ``poly`` (exponent 0.9, nnU-Net's) or ``cosine``, per epoch.
        warmup_epochs: epochs of linear increase before the schedule; at most a tenth of all epochs is used.
        epochs: number of epochs.
        iterations: training iterations per epoch.
        augmentation: ``full`` (nnU-Net's), ``no mirroring`` or ``none``; without mirroring prediction has none either.
        coordinates: whether three channels with each voxel's position follow the image's.
        seed: of initialisation and data, or None for none.
    """

    optimiser: str = "SGD"
    initial_lr: float = 1e-2
    weight_decay: float = 3e-5
    schedule: str = "poly"
    warmup_epochs: int = 0
    epochs: int = 1000
    iterations: int = 250
    augmentation: str = "full"
    coordinates: bool = False
    seed: int | None = None

    OPTIMISERS: ClassVar[Mapping[str, Callable[..., Optimizer]]] = {
        "SGD": lambda parameters, **options: SGD(parameters, momentum=0.99, nesterov=True, **options),
        "Adam": Adam,
        "AdamW": AdamW,
    }
    DECAYS: ClassVar[Mapping[str, Callable[[float], float]]] = {
        "poly": lambda progress: (1 - progress) ** 0.9,
        "cosine": lambda progress: float((1 + torch.cos(torch.tensor(torch.pi * progress))) / 2),
    }

    def __post_init__(self) -> None:
        assert self.optimiser in self.OPTIMISERS, f"unknown optimiser {self.optimiser}"
        assert self.schedule in self.DECAYS, f"unknown schedule {self.schedule}"

    @classmethod
    def of(cls, spec: NetworkSpec, **changes: Any) -> "Recipe":
        """nnU-Net's recipe with the family's defaults, then the given changes."""
        return replace(cls(**spec.recipe), **changes)

    @property
    def validation_iterations(self) -> int:
        """Validation iterations per epoch: a fifth of the training's, at least one."""
        return max(1, self.iterations // VALIDATION_SHARE)

    def learning_rate(self, epoch: int) -> float:
        """Learning rate of an epoch, counted from 0."""
        warmup = min(self.warmup_epochs, self.epochs // 10)
        if epoch < warmup:
            return self.initial_lr * (epoch + 1) / (warmup + 1)
        return self.initial_lr * self.DECAYS[self.schedule]((epoch - warmup) / (self.epochs - warmup))

    def optimiser_for(self, parameters: Iterator[Parameter]) -> tuple[Optimizer, "EpochSchedule"]:
        """The optimiser and its schedule, as nnU-Net's ``configure_optimizers`` gives them."""
        optimiser = self.OPTIMISERS[self.optimiser](parameters, lr=self.initial_lr, weight_decay=self.weight_decay)
        return optimiser, EpochSchedule(optimiser, self)

    def as_dict(self) -> dict[str, Any]:
        """All fields, for JSON."""
        return asdict(self)


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
