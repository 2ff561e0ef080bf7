"""The training recipe: what a trainer's name and its family's declaration change of nnU-Net's training.

Plain data, without torch. Without a word and without a declaration every field has nnU-Net's own value (a test compares
them).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from nnunet_ext.networks.spec import NetworkSpec
from nnunet_ext.trainers.schedules import ENDING, SCHEDULES, share

VALIDATION_SHARE = 5  # nnU-Net validates on 50 iterations for 250 of training
WARMUP_SHARE = 10  # a family's warm-up is for nnU-Net's 1000 epochs: a shorter training has at most a tenth of it
UNFROZEN_SHARE = 0.1  # of the learning rate, for an encoder that was frozen in the first epochs
NOT_COMPARED = {"compile", "save_every", "save_steps"}  # they change no number of a training


@dataclass(frozen=True)
class Recipe:
    """One training recipe.

    Attributes:
        optimiser: ``SGD`` (Nesterov momentum 0.99, nnU-Net's), ``Adam`` or ``AdamW``.
        initial_lr: learning rate after the warm-up, before the decay.
        weight_decay: of the optimiser.
        schedule: a name of :data:`nnunet_ext.trainers.schedules.SCHEDULES`; ``poly`` is nnU-Net's.
        floor: the part of the learning rate at which a poly or cosine schedule ends.
        warmup_epochs: epochs of linear increase before the schedule.
        loss: a name of :data:`nnunet_ext.trainers.losses.LOSSES`; ``DiceCE`` is nnU-Net's.
        clip: largest norm of all gradients together; larger ones are scaled to it.
        batch: cases (patches) of a step, of all processes together; None for the plan's.
        accumulation: batches whose gradients are averaged for one step of the optimiser.
        deep_supervision: whether the loss is of all resolutions of the decoder or of the highest alone.
        precision: ``device`` (nnU-Net's: AMP on CUDA, FP32 elsewhere), ``FP32``, ``BF16`` or ``AMP``.
        augmentation: ``full`` (nnU-Net's), ``no mirroring`` or ``none``; without mirroring prediction has none either.
        compile: whether torch.compile may be used, where nnU-Net would and the family allows it.
        frozen_epochs: first epochs in which the encoder stays as it is.
        unfrozen_stages: how many of the encoder's last stages are trained afterwards; None for all.
        encoder_rate: the encoder's part of the learning rate, where it is another than :attr:`usual_encoder_rate`.
        validate_every: epochs from one pseudo Dice to the next.
        save_every: epochs from one latest checkpoint to the next.
        save_steps: training steps from one latest checkpoint to the next instead, or None.
        patience: epochs without a better pseudo Dice after which the training may end, or None.
        epochs: number of epochs.
        iterations: training iterations per epoch.
        smoothing: part of a class's truth that is spread over all levels; case-level targets only.
        balanced: whether levels of a class count by the inverse of their frequency; case-level targets only.
        heteroscedastic: whether a regression's head tells each case's spread; case-level targets only.
        joint: weight of the segmentation's loss beside that of the columns, 0 for none; case-level targets only.
        covariates: whether the heads read the covariates of targets.json beside the images; case-level targets only.
        fused: whether each input of targets.json has an encoder of its own; case-level targets only.
        multi_level: whether the heads read the last four stages, each projected; case-level targets only.
        targets: the columns of targets.json that are trained, by their places (``1and3``); ``all`` of them.
        coordinates: whether three channels with each voxel's position follow the image's.
        seed: of initialisation and data, or None for none.
    """

    optimiser: str = "SGD"
    initial_lr: float = 1e-2
    weight_decay: float = 3e-5
    schedule: str = "poly"
    floor: float = 0.0
    warmup_epochs: int = 0
    loss: str = "DiceCE"
    clip: float = 12.0
    batch: int | None = None
    accumulation: int = 1
    deep_supervision: bool = True
    precision: str = "device"
    augmentation: str = "full"
    compile: bool = True
    frozen_epochs: int = 0
    unfrozen_stages: int | None = None
    encoder_rate: float | None = None
    validate_every: int = 1
    save_every: int = 50
    save_steps: int | None = None
    patience: int | None = None
    epochs: int = 1000
    iterations: int = 250
    coordinates: bool = False
    smoothing: float = 0.0
    balanced: bool = False
    heteroscedastic: bool = False
    joint: float = 0.0
    covariates: bool = False
    fused: bool = False
    multi_level: bool = False
    targets: str = "all"
    seed: int | None = None

    def __post_init__(self) -> None:
        assert self.schedule in SCHEDULES, f"unknown schedule {self.schedule}"

    def check(self) -> None:
        """Refuses a recipe that no training can follow, with a ValueError."""
        for name, kind in (("warmup_epochs", "warm-up"), ("frozen_epochs", "a frozen encoder")):
            if (count := getattr(self, name)) >= self.epochs:
                raise ValueError(f"{count} epochs of {kind} leave none of {self.epochs}; ask for fewer.")
        if self.unfrozen_stages and not self.frozen_epochs:
            raise ValueError(
                f"Unfreeze{self.unfrozen_stages} says what is trained after the epochs of Freeze<N>; add Freeze10."
            )
        if self.joint and self.fused:
            raise ValueError("Joint has one encoder with its decoder and Fused has several encoders; leave one out.")
        if self.floor and self.schedule not in ENDING:
            raise ValueError(f"Floor<part> is where Poly or Cosine end, and {self.schedule} does not end at zero.")
        if not 0 <= self.floor < 1:
            raise ValueError(f"Floor<part> is a part of the learning rate below 1, not {self.floor:g}.")
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"A label smoothing lies between 0 and 1, not at {self.smoothing:g}; Smooth1en1 is 0.1.")

    @classmethod
    def of(cls, spec: NetworkSpec, **changes: Any) -> "Recipe":
        """nnU-Net's recipe with the family's defaults, then the given changes.

        The family's warm-up takes at most a tenth of the epochs, so that a short training has a rate to train with.
        """
        epochs = changes.get("epochs", cls.epochs)
        declared = {"compile": spec.compile, **spec.recipe}
        declared["warmup_epochs"] = min(declared.get("warmup_epochs", cls.warmup_epochs), epochs // WARMUP_SHARE)
        recipe = cls(**{**declared, **changes})
        # one training has one recipe, and so one name
        return replace(recipe, encoder_rate=None) if recipe.encoder_rate == recipe.usual_encoder_rate else recipe

    @property
    def validation_iterations(self) -> int:
        """Validation iterations per epoch: a fifth of the training's, at least one."""
        return max(1, self.iterations // VALIDATION_SHARE)

    def validates(self, epoch: int) -> bool:
        """Whether the pseudo Dice of an epoch, counted from 0, is computed: of the first and of the last always."""
        return epoch % self.validate_every == 0 or epoch == self.epochs - 1

    def learning_rate(self, epoch: int, plateau: float = 1.0) -> float:
        """Learning rate of an epoch, counted from 0; ``plateau`` is the share that a plateau's cuts have left."""
        return self.initial_lr * share(self.schedule, epoch, self.epochs, self.warmup_epochs, plateau, self.floor)

    @property
    def usual_encoder_rate(self) -> float:
        """The encoder's part of the learning rate where no word says another."""
        return UNFROZEN_SHARE if self.frozen_epochs else 1.0

    @property
    def encoder_apart(self) -> bool:
        """Whether the encoder's rate is ever another than that of decoder or heads."""
        return bool(self.frozen_epochs) or self.encoder_rate is not None

    def encoder_share(self, epoch: int) -> float:
        """The part of the learning rate that the encoder has in an epoch, counted from 0."""
        if epoch < self.frozen_epochs:
            return 0.0
        return self.usual_encoder_rate if self.encoder_rate is None else self.encoder_rate

    def as_dict(self) -> dict[str, Any]:
        """All fields, for JSON and checkpoints."""
        return asdict(self)

    def changed_since(self, stored: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
        """Fields that a stored recipe has otherwise: (then, now). What it lacks had nnU-Net's value."""
        usual = Recipe().as_dict()
        both = {name: (stored.get(name, usual[name]), now) for name, now in self.as_dict().items()}
        return {name: values for name, values in both.items() if name not in NOT_COMPARED and values[0] != values[1]}

    def extended(self, epochs: int) -> "Recipe":
        """The same recipe for another number of epochs."""
        return replace(self, epochs=epochs)


FIELDS = tuple(field.name for field in fields(Recipe))
