"""The cost of one network for one input and precision, as plain records.

PAM, peak activation memory: the highest sum of the bytes of all activations that are live at one moment of forward
pass, loss and backward pass. Activations are all tensors but parameters, buffers, gradients, the optimiser's state,
its temporaries, the input, and the copies of weights that mixed precision makes. What the allocator loses, the context
of a device and the workspace of its libraries are in no figure here; see :data:`RESERVE`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

MIB, GIB = 2**20, 2**30
RESERVE = int(2.5 * GIB)
"""Bytes of a card that hold no tensor: CUDA's context, workspaces of its libraries, and what the allocator loses.

Not measured, for want of a GPU: nnU-Net publishes 7.70, 9.10 and 22.70 GB for its plain network, ResEnc M and ResEnc L
(``documentation/resenc_presets.md`` of nnU-Net 2: nvidia-smi on an A100, means over its datasets); the tensors that are
predicted here for BraTS are 4.75, 6.16 and 19.2 GiB. The rest is 1.9 to 2.4 GiB if those GB are 10^9 bytes, 2.9 to 3.5
if they are 2^30; this is between.
"""


@dataclass(frozen=True)
class Memory:
    """Bytes of a step.

    Attributes:
        pam: most activations that are live at one moment.
        most_copies: the same of copies of weights in half precision.
        most_temporaries: the same of what the optimiser makes and gives back within its step.
        stage: the stage that holds most of the PAM.
        activations, copies, parameters, buffers, gradients, optimiser, temporaries, inputs: at the moment at which most
            of all kinds together is live: what is made anew and none of the others; copies of weights; of the network;
            of the network; of the parameters; the optimiser's state; its temporaries; image and targets.
    """

    pam: int
    most_copies: int
    most_temporaries: int
    stage: str
    activations: int
    copies: int
    parameters: int
    buffers: int
    gradients: int
    optimiser: int
    temporaries: int
    inputs: int

    @property
    def parts(self) -> dict[str, int]:
        """What the total consists of."""
        others = ("pam", "most_copies", "most_temporaries", "stage")
        return {kind: nbytes for kind, nbytes in asdict(self).items() if kind not in others}

    @property
    def total(self) -> int:
        """Bytes of all live tensors."""
        return sum(self.parts.values())


@dataclass(frozen=True)
class StageCost:
    """A stage's part. The first five fields add up to the network's over all stages.

    Attributes:
        stage: its name, see :mod:`.stages`; ``loss`` and ``other`` for what is in none.
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
        training: the peaks of a training step of the whole batch.
        inference: the peaks of a forward pass of one sample, as nnU-Net predicts.
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
