"""How much memory a training step of a declared network needs under a plan."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from nnunet_ext.networks import registry
from nnunet_ext.networks.spec import NetworkSpec
from nnunet_ext.profiling.predict import follow_training, memory

PRECISION = "amp"  # what nnU-Net trains with on CUDA


@dataclass(frozen=True)
class TrainingMemory:
    """Predicts and remembers the bytes of all live tensors at the peak of a training step, with deep supervision.

    Attributes:
        spec, size: the network.
        optimiser: ``SGD``, ``Adam`` or ``AdamW``.
    """

    spec: NetworkSpec
    size: str
    optimiser: str = "SGD"
    _known: dict[tuple[Any, ...], int] = field(default_factory=dict)

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
        shape = tuple(input_shape)
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
