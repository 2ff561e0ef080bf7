"""The training recipe: what a trainer's name and its family's declaration change of nnU-Net's training.

Plain data, without torch. Without a word and without a declaration every field has nnU-Net's own value (a test compares
them).
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

from nnunet_ext.networks.spec import NetworkSpec
from nnunet_ext.trainers.schedules import DECAYS, share

VALIDATION_SHARE = 5  # nnU-Net validates on 50 iterations for 250 of training
WARMUP_SHARE = 10  # a family's warm-up is for nnU-Net's 1000 epochs: a shorter training has at most a tenth of it


@dataclass(frozen=True)
class Recipe:
    """One training recipe.

    Attributes:
        optimiser: ``SGD`` (Nesterov momentum 0.99, nnU-Net's), ``Adam`` or ``AdamW``.
        initial_lr: learning rate after the warm-up, before the decay.
        weight_decay: of the optimiser.
        schedule: ``poly`` (exponent 0.9, nnU-Net's) or ``cosine``, per epoch.
        warmup_epochs: epochs of linear increase before the schedule.
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

    def __post_init__(self) -> None:
        assert self.schedule in DECAYS, f"unknown schedule {self.schedule}"
        assert 0 <= self.warmup_epochs < self.epochs, f"{self.warmup_epochs} of {self.epochs} epochs of warm-up"

    @classmethod
    def of(cls, spec: NetworkSpec, **changes: Any) -> "Recipe":
        """nnU-Net's recipe with the family's defaults, then the given changes.

        The family's warm-up takes at most a tenth of the epochs, so that a short training has a rate to train with.
        """
        epochs = changes.get("epochs", cls.epochs)
        declared = {**spec.recipe}
        declared["warmup_epochs"] = min(declared.get("warmup_epochs", cls.warmup_epochs), epochs // WARMUP_SHARE)
        return replace(cls(**declared, epochs=epochs), **changes)

    @property
    def validation_iterations(self) -> int:
        """Validation iterations per epoch: a fifth of the training's, at least one."""
        return max(1, self.iterations // VALIDATION_SHARE)

    def learning_rate(self, epoch: int) -> float:
        """Learning rate of an epoch, counted from 0."""
        return self.initial_lr * share(self.schedule, epoch, self.epochs, self.warmup_epochs)

    def as_dict(self) -> dict[str, Any]:
        """All fields, for JSON."""
        return asdict(self)
