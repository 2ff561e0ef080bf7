"""The cost of one network for one input and precision, as plain records.

PAM, peak activation memory: the highest sum of the bytes of all live tensors in a step, minus the parameters, buffers,
gradients, optimiser state and input that are live at that moment. Weights of the allocator, the context of a device and
the workspace of its libraries are in no figure here.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

MIB = 2**20
CARD_SHARE = 0.9  # of a card for tensors; the rest is CUDA's context, workspaces and what the allocator loses


@dataclass(frozen=True)
class Memory:
    """What is live at the peak of a step, in bytes.

    Attributes:
        activations: the PAM: whatever is none of the following.
        parameters, buffers: of the network.
        gradients: of the parameters; at the peak of most steps the backward pass has hardly made any.
        optimiser: its state.
        inputs: image and targets.
        stage: the stage that holds most of the activations.
    """

    activations: int
    parameters: int
    buffers: int
    gradients: int
    optimiser: int
    inputs: int
    stage: str

    @property
    def total(self) -> int:
        """Bytes of all live tensors."""
        kinds = self.activations, self.parameters, self.buffers, self.gradients, self.optimiser, self.inputs
        return sum(kinds)


@dataclass(frozen=True)
class StageCost:
    """A stage's part. The first five fields add up to the network's over all stages.

    Attributes:
        stage: its name, see :mod:`.stages`; ``loss``, ``optimiser`` and ``other`` for what is in none.
        parameters: number of them.
        macs: of one forward pass of one sample.
        training, inference: bytes of the PAM that were made in it.
        training_peak, inference_peak: most bytes made in it that are live at any one moment.
    """

    stage: str
    parameters: int
    macs: int
    training: int
    inference: int
    training_peak: int
    inference_peak: int


@dataclass(frozen=True)
class Cost:
    """What a network costs.

    Attributes:
        input_shape: (B, C, Z, Y, X) or (B, C, Y, X).
        precision: ``amp`` (CUDA's autocast to float16), ``bf16`` (to bfloat16) or ``fp32``.
        device: whose kernels are assumed, ``cuda`` or ``cpu``.
        parameters: number of them.
        macs: multiply-accumulates of one forward pass of one sample without deep supervision, each operator by its
            definition: what publications print, often under the name FLOPs.
        macs_step: multiply-accumulates that a training step of the whole batch executes: both passes, recomputation
            and Fourier transforms included.
        training, inference: the peaks of a training step and of a forward pass, of the whole batch.
        stages: in the order in which they run.
    """

    input_shape: tuple[int, ...]
    precision: str
    device: str
    parameters: int
    macs: int
    macs_step: int
    training: Memory
    inference: Memory
    stages: tuple[StageCost, ...]

    @property
    def flops(self) -> int:
        """Floating-point operations of one forward pass of one sample: two for each multiply-accumulate."""
        return 2 * self.macs

    def as_dict(self) -> dict[str, Any]:
        """All fields, for JSON."""
        totals: Mapping[str, int] = {"training_total": self.training.total, "inference_total": self.inference.total}
        return {**asdict(self), "flops": self.flops, **totals}
