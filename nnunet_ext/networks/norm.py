"""Instance normalisation with the form that is fastest on the device that it runs on.

``GroupNorm`` with one channel a group is the same function and on a CPU the faster one. Under CUDA's autocast it would
compute in float32 and double the activations' memory, which instance normalisation does not; and for maps in the
channels-last layout, in which :mod:`.conv` predicts, torch's form adds up millions of voxels in one float32, which
leaves three digits at 128^3 and fewer with a mean.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import group_norm
from torch.nn.modules.instancenorm import _InstanceNorm

from nnunet_ext.networks.by_device import CHANNELS_LAST, on_cpu, predicting_on_cpu

CHUNK = 2**17  # values that stay in a core's cache between the passes over them


class InstanceNorm(_InstanceNorm):
    """(B, C, ...) -> (B, C, ...)."""

    def forward(self, input: Tensor, *, overwrite: bool = False) -> Tensor:
        """Zero mean and unit variance of every channel of every sample, then scale and shift.

        With ``overwrite`` the result may take the input's place where no gradient is wanted: fresh memory costs as
        much time as the normalisation. Only for an input that nothing else reads; :func:`.chain.in_turn` knows.
        """
        if self._fits(input):
            if input.is_contiguous():
                return group_norm(input, self.num_features, self.weight, self.bias, self.eps)
            if self._in_chunks(input):
                return self._channels_last(input, input if overwrite else torch.empty_like(input))
        return super().forward(input)

    def _fits(self, x: Tensor) -> bool:
        """Torch's own form also keeps running statistics, and refuses a single voxel and other channels."""
        return (
            on_cpu(x, self._get_no_batch_dim() - 1)
            and not self.track_running_stats
            and x.shape[1] == self.num_features
            and x.shape[2:].numel() > 1
        )

    def _in_chunks(self, x: Tensor) -> bool:
        plain = x.dtype in (torch.float32, torch.float64) and predicting_on_cpu(x, x.ndim - 2)
        return plain and x.is_contiguous(memory_format=CHANNELS_LAST[x.ndim])

    def _channels_last(self, x: Tensor, y: Tensor) -> Tensor:
        """The same in chunks of rows (voxels, C), without graph, written into ``y``."""
        for sample, result in zip(x.movedim(1, -1), y.movedim(1, -1), strict=True):
            rows = sample.flatten(0, -2).split(max(CHUNK // self.num_features, 1))
            mean, variance = _moments(rows)
            scale = (variance + self.eps).rsqrt()
            if self.weight is not None:
                scale = scale * self.weight
            shift = -mean * scale
            if self.bias is not None:
                shift = shift + self.bias
            for chunk, out in zip(rows, result.flatten(0, -2).split(len(rows[0])), strict=True):
                torch.addcmul(shift, chunk, scale, out=out)
        return y


def _moments(chunks: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and variance over the rows of all chunks (n, C), each (C,); stable (Chan et al. 1983)."""
    lengths = torch.tensor([len(chunk) for chunk in chunks], dtype=chunks[0].dtype)
    means = torch.stack([chunk.mean(0) for chunk in chunks])
    within = torch.stack([(chunk - mean).square_().sum(0) for chunk, mean in zip(chunks, means, strict=True)])
    mean = lengths @ means / lengths.sum()
    return mean, (within.sum(0) + lengths @ (means - mean).square()) / lengths.sum()


class InstanceNorm2d(InstanceNorm, nn.InstanceNorm2d):
    """For maps (B, C, Y, X)."""


class InstanceNorm3d(InstanceNorm, nn.InstanceNorm3d):
    """For maps (B, C, Z, Y, X)."""
