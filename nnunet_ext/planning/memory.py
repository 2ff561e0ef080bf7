"""How much memory a training step of a declared network needs under a plan."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from nnunet_ext.networks import registry
from nnunet_ext.networks.spec import COORDINATES, NetworkSpec
from nnunet_ext.profiling.devices import Device
from nnunet_ext.profiling.predict import follow_training, memory

PRECISIONS = {"device": "amp", "AMP": "amp", "BF16": "bf16", "FP32": "fp32"}  # nnU-Net trains with amp on CUDA
PREDICTED = {"optimiser", "coordinates", "accumulation", "precision", "deep_supervision"}  # fields of a recipe


@dataclass(frozen=True)
class TrainingMemory:
    """Predicts and remembers the bytes of all live tensors at the peak of a training step.

    Attributes:
        spec, size: the network.
        optimiser: ``SGD``, ``Adam`` or ``AdamW``.
        further_channels: input channels that the recipe adds to those of the data.
        precision: a key of :data:`PRECISIONS`.
        accumulation: batches for one step of the optimiser.
        deep_supervision: whether the loss is of all resolutions.
        device: whose kernels are assumed, ``cuda`` or ``cpu``.
    """

    spec: NetworkSpec
    size: str
    optimiser: str = "SGD"
    further_channels: int = 0
    precision: str = "device"
    accumulation: int = 1
    deep_supervision: bool = True
    device: Device = "cuda"
    _known: dict[tuple[Any, ...], int] = field(default_factory=dict)

    @classmethod
    def of(cls, spec: NetworkSpec, size: str, changed: Mapping[str, Any], device: Device = "cuda") -> "TrainingMemory":
        """For a recipe, given the fields that it changes of nnU-Net's own and that may change memory.

        Raises:
            ValueError: one of them is not predicted.
        """
        if unknown := [f"{name} {value}" for name, value in sorted(changed.items()) if name not in PREDICTED]:
            raise ValueError(
                f"Nothing here predicts the memory of a training with {' and '.join(unknown)}; plan for a trainer "
                "without it."
            )
        options = {name: value for name, value in changed.items() if name != "coordinates"}
        further = COORDINATES * changed.get("coordinates", False)
        return cls(spec, size, further_channels=further, device=device, **options)

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
        key = (shape, classes, image_channels, str(architecture["strides"]), str(architecture["kernel_sizes"]))
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
                    deep_supervision=self.deep_supervision,
                )
            peak, _ = follow_training(
                network,
                shape,
                precision=PRECISIONS[self.precision],
                optimiser=self.optimiser,
                accumulation=self.accumulation,
                device=self.device,
            )
            self._known[key] = memory(peak).total
        return self._known[key]
