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

from nnunet_ext.networks.conv import CHANNELS_LAST

CHUNK = 2**17  # values that stay in a core's cache between the passes over them


class _ByDevice(_InstanceNorm):
    """(B, C, ...) -> (B, C, ...); parameters, state-dict keys and errors are torch's.

    With ``overwrites_input`` the result takes the input's place where no gradient is wanted: fresh memory costs as
    much time as the normalisation. Only for an input that nothing else reads, such as a convolution's output.
    """

    overwrites_input = False

    def forward(self, input: Tensor) -> Tensor:
        """Zero mean and unit variance of every channel of every sample, then scale and shift."""
        # torch's own form also refuses a single voxel and keeps running statistics
        if input.device.type == "cpu" and not self.track_running_stats and input.shape[2:].numel() > 1:
            if input.is_contiguous():
                return group_norm(input, self.num_features, self.weight, self.bias, self.eps)
            if self._in_chunks(input):
                return self._channels_last(input)
        return super().forward(input)

    def _in_chunks(self, x: Tensor) -> bool:
        plain = x.dtype in (torch.float32, torch.float64) and not torch.is_grad_enabled()
        return plain and x.is_contiguous(memory_format=CHANNELS_LAST[x.ndim])

    def _channels_last(self, x: Tensor) -> Tensor:
        """The same in chunks of rows (voxels, C), without graph."""
        y = x if self.overwrites_input else torch.empty_like(x)
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


class InstanceNorm2d(_ByDevice, nn.InstanceNorm2d):
    """For maps (B, C, Y, X)."""


class InstanceNorm3d(_ByDevice, nn.InstanceNorm3d):
    """For maps (B, C, Z, Y, X)."""


def overwrite_input(norm: nn.Module) -> nn.Module:
    """Lets one of our normalisations overwrite its input in prediction; others stay as they are."""
    if isinstance(norm, _ByDevice):
        norm.overwrites_input = True
    return norm


def by_device(norm_op: type[nn.Module]) -> type[nn.Module]:
    """Our form of torch's instance normalisation; every other class as it is."""
    ours: dict[type[nn.Module], type[nn.Module]] = {
        nn.InstanceNorm2d: InstanceNorm2d,
        nn.InstanceNorm3d: InstanceNorm3d,
    }
    return ours.get(norm_op, norm_op)
