"""ShuffleNetV2 (Ma et al. 2018, arXiv:1807.11164, ECCV): half of the channels pass, half are filtered, shuffled.

Optionally with dilated or with larger depthwise convolutions.

Differences: written for 2D and 3D; normalisation and activation come from the plan; a stage is one strided unit and
one that splits its channels. The strided unit is never dilated: with stride and dilation 2 it would not see every other
voxel. The rate is lowered where the map is small (:meth:`Topology.dilation`).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nnunet_ext.networks.encoder import StagePlan
from nnunet_ext.networks.layers import ConvNormAct, enlarged
from nnunet_ext.networks.topology import Topology


class ShuffleUnit(nn.Module):
    """Two branches, concatenated and shuffled.

    Where the shape stays, the first half of the channels is a branch by itself; otherwise both read all channels.

    Args:
        topology: operators.
        in_channels, out_channels: before and after; even.
        kernel_size, stride, dilation: of the depthwise convolutions.
    """

    def __init__(
        self,
        topology: Topology,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: Sequence[int],
        stride: Sequence[int],
        dilation: Sequence[int] | int = 1,
    ) -> None:
        super().__init__()
        half = out_channels // 2

        def depthwise(channels: int) -> ConvNormAct:
            return ConvNormAct(
                topology, channels, channels, kernel_size, stride=stride, dilation=dilation, groups=channels, act=False
            )

        self.splits = in_channels == out_channels and all(s == 1 for s in stride)
        if not self.splits:
            self.shortcut = nn.Sequential(depthwise(in_channels), ConvNormAct(topology, in_channels, half))
        self.branch = nn.Sequential(
            ConvNormAct(topology, half if self.splits else in_channels, half),
            depthwise(half),
            ConvNormAct(topology, half, half),
        )
        self.shuffle = nn.ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, Z, Y, X) -> (B, C', Z / stride, ...)."""
        first, second = x.chunk(2, 1) if self.splits else (self.shortcut(x), x)
        return self.shuffle(torch.cat((first, self.branch(second)), 1))


class ShuffleNetV2Stage(nn.Sequential):
    """A strided unit, then one with ``dilation``; ``kernel_size`` widens the depthwise kernels of both."""

    paper_blocks = (ShuffleUnit,)

    def __init__(
        self, in_channels: int, out_channels: int, plan: StagePlan, *, dilation: int = 1, kernel_size: int = 3
    ) -> None:
        super().__init__()
        kernel = enlarged(plan.kernel_size, kernel_size)
        self.down = ShuffleUnit(plan.topology, in_channels, out_channels, kernel_size=kernel, stride=plan.stride)
        self.unit = ShuffleUnit(
            plan.topology,
            out_channels,
            out_channels,
            kernel_size=kernel,
            stride=(1,) * len(plan.stride),
            dilation=plan.dilation(dilation),
        )
