"""Convolutions that compute in the channels-last layout where a CPU predicts.

oneDNN then works on the maps as they are instead of copying them to a layout of its own and back: dense convolutions
take two thirds of the time, depthwise ones a fifth. Elsewhere the layout stays: instance normalisation on CUDA and
torch's group normalisation in training would lose more than the convolutions gain.
"""

from torch import Tensor, block_diag, nn
from torch.nn.functional import conv2d, conv3d, linear, pad
from torch.nn.modules.conv import _ConvNd

from nnunet_ext.networks.by_device import CHANNELS_LAST, predicting_on_cpu

CONVOLVE = {4: conv2d, 5: conv3d}


class _Convolution(_ConvNd):
    """(B, C, ...) -> (B, C', ...)."""

    def forward(self, input: Tensor) -> Tensor:
        """The convolution with the module's own kernel."""
        return self.convolve(input, self.weight, self.bias)

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The same convolution with another kernel (C', C, ...), for another number C of channels if it likes."""
        if not predicting_on_cpu(x, len(self.kernel_size)):
            return self._conv_forward(x, weight, bias)
        if {*self.kernel_size} == {1} and not self._pads():
            # each voxel by itself: a matrix product over the channels, which oneDNN does not make of it; zeros
            # between the groups cost less than its grouped form
            matrix = block_diag(*weight.flatten(1).chunk(self.groups))
            x = x[:, :, *(slice(None, None, s) for s in self.stride)].contiguous(memory_format=CHANNELS_LAST[x.ndim])
            return linear(x.movedim(1, -1), matrix, bias).movedim(-1, 1)
        if x.shape[1] == weight.shape[1] == self.groups == 1 and self._pads_with_zeros():
            return self._of_one_channel(x, weight, bias)
        x = x.contiguous(memory_format=CHANNELS_LAST[x.ndim])
        return self._conv_forward(x, weight, bias)

    def _pads(self) -> bool:
        """Whether anything is put around the map; "same" puts nothing around that of a kernel of one voxel."""
        return not isinstance(self.padding, str) and any(self.padding)

    def _pads_with_zeros(self) -> bool:
        """Whether the margins are zeros, and as wide on both sides as ``padding`` says."""
        return self.padding_mode == "zeros" and not isinstance(self.padding, str)

    def _of_one_channel(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """What the kernel sees along its longest axis becomes channels, for oneDNN is slow with a single one.

        The first convolution of a modality takes a fifth of the time, and its layout cannot be mistaken.
        """
        assert isinstance(self.padding, tuple)
        axis = max(range(len(self.kernel_size)), key=lambda a: self.kernel_size[a])
        reach = self.dilation[axis] * (self.kernel_size[axis] - 1) + 1
        margins = [p if a == axis else 0 for a, p in enumerate(self.padding) for _ in range(2)]
        seen = pad(x[:, 0], margins[::-1]).unfold(1 + axis, reach, self.stride[axis])[..., :: self.dilation[axis]]
        channels = seen.movedim(-1, 1).contiguous(memory_format=CHANNELS_LAST[x.ndim])

        def across(values: tuple[int, ...], along: int) -> tuple[int, ...]:
            return tuple(along if a == axis else v for a, v in enumerate(values))

        options = across(self.stride, 1), across(self.padding, 0), across(self.dilation, 1)
        return CONVOLVE[x.ndim](channels, weight.transpose(1, 2 + axis), bias, *options)


class Conv2d(_Convolution, nn.Conv2d):
    """For maps (B, C, Y, X)."""


class Conv3d(_Convolution, nn.Conv3d):
    """For maps (B, C, Z, Y, X)."""
