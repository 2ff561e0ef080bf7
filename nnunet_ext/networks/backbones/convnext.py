"""ConvNeXt (Liu et al. 2022, arXiv:2201.03545, CVPR): a large depthwise convolution, then a perceptron per voxel.

Differences: written for 2D and 3D; a stage is entered as the paper's stem is, by a convolution without overlap and a
normalisation behind it, and has one block; no drop path. Layer normalisation over the channels of a voxel and GELU
belong to the family and are not taken from the plan.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nnunet_ext.networks.encoder import StagePlan
from nnunet_ext.networks.layers import convolution, enlarged
from nnunet_ext.networks.topology import Topology

KERNEL = 7
EXPANSION = 4
LAYER_SCALE = 1e-6
EPS = 1e-6


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of every voxel of (B, C, Z, Y, X)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=EPS)

    def forward(self, input: Tensor) -> Tensor:
        """Maps of the same shape."""
        return super().forward(input.movedim(1, -1)).movedim(-1, 1)


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution, normalisation and two pointwise convolutions, scaled per channel and added to the input.

    An axis that the stage's kernel does not look across (size 1) is not looked across here either.
    """

    def __init__(self, topology: Topology, channels: int, kernel_size: Sequence[int]) -> None:
        super().__init__()
        kernel = enlarged(kernel_size, KERNEL)
        self.depthwise = convolution(topology, channels, channels, kernel, groups=channels, bias=True)
        self.norm = ChannelNorm(channels)
        self.expand = convolution(topology, channels, EXPANSION * channels, bias=True)
        self.act = nn.GELU()
        self.project = convolution(topology, EXPANSION * channels, channels, bias=True)
        self.scale = nn.Parameter(torch.full((channels, *(1,) * topology.dims), LAYER_SCALE))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, Z, Y, X) to the same shape."""
        return x + self.scale * self.project(self.act(self.expand(self.norm(self.depthwise(x)))))


class ConvNeXtStage(nn.Sequential):
    """A convolution whose kernel is the stride (in stage 1: the plan's kernel), and from stage 2 on a block."""

    def __init__(self, in_channels: int, out_channels: int, plan: StagePlan) -> None:
        super().__init__()
        kernel = plan.stride if plan.index else plan.kernel_size
        self.down = convolution(plan.topology, in_channels, out_channels, kernel, stride=plan.stride, bias=True)
        self.norm = ChannelNorm(out_channels)
        if plan.index:
            self.block = ConvNeXtBlock(plan.topology, out_channels, plan.kernel_size)
