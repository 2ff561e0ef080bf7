"""How much memory a training step of a declared network needs under a plan."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from nnunet_ext.networks import registry
from nnunet_ext.networks.spec import COORDINATES, NetworkSpec
from nnunet_ext.profiling.predict import follow_training, memory

PRECISION = "amp"  # what nnU-Net trains with on CUDA
# fields of a recipe that change no tensor, or none to speak of
NEUTRAL = {"initial_lr", "weight_decay", "schedule", "warmup_epochs", "epochs", "iterations", "augmentation", "seed"}
PREDICTED = {"optimiser", "coordinates"}


@dataclass(frozen=True)
class TrainingMemory:
    """Predicts and remembers the bytes of all live tensors at the peak of a training step, with deep supervision.

    Attributes:
        spec, size: the network.
        optimiser: ``SGD``, ``Adam`` or ``AdamW``.
        further_channels: input channels that the recipe adds to those of the data.
    """

    spec: NetworkSpec
    size: str
    optimiser: str = "SGD"
    further_channels: int = 0
    _known: dict[tuple[Any, ...], int] = field(default_factory=dict)

    @classmethod
    def of(cls, spec: NetworkSpec, size: str, recipe: Mapping[str, Any], usual: Mapping[str, Any]) -> "TrainingMemory":
        """For a recipe, given the fields of nnU-Net's own.

        Raises:
            ValueError: the recipe changes something else that may need memory.
        """
        changed = {name for name, value in recipe.items() if value != usual[name]}
        if unknown := sorted(changed - NEUTRAL - PREDICTED):
            raise ValueError(
                f"Nothing here predicts the memory of a training with another {' and '.join(unknown)}; plan for a "
                "trainer without it."
            )
        return cls(spec, size, recipe["optimiser"], COORDINATES * recipe.get("coordinates", False))

    def __call__(
        self, architecture: Mapping[str, Any], input_shape: Sequence[int], *, classes: int, image_channels: int
    ) -> int:
        """The bytes.

        Args:
            architecture: ``arch_kwargs`` of a plan.
            input_shape: (B, C, Z, Y, X) or (B, C, Y, X).
            classes: number of logit maps.
            image_channels: how many of the C channels are image.

        Raises:
            ValueError: the network cannot be built for this plan.
        """
        shape = (input_shape[0], input_shape[1] + self.further_channels, *input_shape[2:])
        key = (shape, classes, image_channels, architecture["strides"], architecture["kernel_sizes"])
        if key not in self._known:
            with torch.device("meta"):
                network = registry.build(
                    self.spec,
                    shape[1],
                    classes,
                    architecture,
                    size=self.size,
                    image_channels=image_channels,
                    patch_size=shape[2:],
                    deep_supervision=True,
                )
            peak, _ = follow_training(network, shape, precision=PRECISION, optimiser=self.optimiser)
            self._known[key] = memory(peak).total
        return self._known[key]
