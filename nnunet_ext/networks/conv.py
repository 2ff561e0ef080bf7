"""Convolutions that compute in the channels-last layout where a CPU predicts.

oneDNN then works on the maps as they are instead of copying them to a layout of its own and back: dense convolutions
take two thirds of the time, depthwise ones a fifth. Elsewhere the layout stays: instance normalisation on CUDA and
torch's group normalisation in training would lose more than the convolutions gain.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad
from torch.nn.modules.conv import _ConvNd

CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}  # by number of the tensor's dimensions


class _ByDevice(_ConvNd):
    """(B, C, ...) -> (B, C', ...); parameters, state-dict keys and values are torch's."""

    def forward(self, input: Tensor) -> Tensor:
        """The convolution with the module's own kernel."""
        return self.convolve(input, self.weight, self.bias)

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The same convolution with another kernel (C', C, ...), for another number C of channels if it likes."""
        if x.device.type != "cpu" or torch.is_grad_enabled():
            return self._conv_forward(x, weight, bias)
        x = x.contiguous(memory_format=CHANNELS_LAST[x.ndim])
        if self.groups == 1 and {*self.kernel_size, *self.stride} == {1}:
            # each voxel by itself: a matrix product over the channels, which oneDNN does not make of it
            return linear(x.movedim(1, -1), weight.flatten(1), bias).movedim(-1, 1)
        if x.shape[1] == 1:
            # the layouts of one channel cannot be told apart, so a second one with zero weights decides
            x = x.expand(-1, 2, *x.shape[2:]).contiguous(memory_format=CHANNELS_LAST[x.ndim])
            weight = pad(weight, [0, 0] * (x.ndim - 2) + [0, 1])
        return self._conv_forward(x, weight, bias)


class Conv2d(_ByDevice, nn.Conv2d):
    """For maps (B, C, Y, X)."""


class Conv3d(_ByDevice, nn.Conv3d):
    """For maps (B, C, Z, Y, X)."""


def by_device(conv_op: type[nn.Module]) -> type[nn.Module]:
    """Our form of torch's convolution; every other class as it is."""
    ours: dict[type[nn.Module], type[nn.Module]] = {nn.Conv2d: Conv2d, nn.Conv3d: Conv3d}
    return ours.get(conv_op, conv_op)
