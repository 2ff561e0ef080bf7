"""GhostNet (Han et al. 2020, arXiv:1911.11907, CVPR): half of the maps are made from the other half by cheap filters.

Differences: written for 2D and 3D; normalisation and activation come from the plan; a stage is entered by a depthwise
convolution with the stride and a pointwise one, because in 3D the paper's strided bottleneck expands its channels at
eight times the voxels, and then has two bottlenecks; no squeeze-and-excitation.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nnunet_ext.networks.encoder import StagePlan
from nnunet_ext.networks.layers import ConvNormAct, LightEntry
from nnunet_ext.networks.topology import Topology

EXPANSION = 2  # mid channels of a bottleneck, in multiples of its output
BLOCKS = 2


class GhostModule(nn.Module):
    """(B, C, ...) -> (B, C', ...): a 1x1x1 convolution for half of the maps, a depthwise one of these for the rest."""

    def __init__(
        self,
        topology: Topology,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: Sequence[int],
        act: bool = True,
    ) -> None:
        super().__init__()
        self.out_channels = out_channels
        primary = -(-out_channels // 2)
        self.primary = ConvNormAct(topology, in_channels, primary, act=act)
        self.cheap = ConvNormAct(topology, primary, primary, kernel_size, groups=primary, act=act)

    def forward(self, x: Tensor) -> Tensor:
        """The primary maps, then the cheap ones; one too many where the number of channels is odd is cut."""
        primary = self.primary(x)
        return torch.cat((primary, self.cheap(primary)), 1)[:, : self.out_channels]


class GhostBottleneck(nn.Module):
    """Two ghost modules around a strided depthwise convolution, and a shortcut.

    Args:
        topology: operators.
        in_channels, mid_channels, out_channels: before, between and after the ghost modules.
        kernel_size, stride: of the plan's stage; a stride of 1 has no depthwise convolution.
    """

    def __init__(
        self,
        topology: Topology,
        in_channels: int,
        mid_channels: int,
        out_channels: int,
        *,
        kernel_size: Sequence[int],
        stride: Sequence[int],
    ) -> None:
        super().__init__()
        strided = any(s > 1 for s in stride)
        self.ghost1 = GhostModule(topology, in_channels, mid_channels, kernel_size=kernel_size)
        self.depthwise: nn.Module = nn.Identity()
        self.shortcut: nn.Module = nn.Identity()
        if strided:
            self.depthwise = ConvNormAct(
                topology, mid_channels, mid_channels, kernel_size, stride=stride, groups=mid_channels, act=False
            )
        self.ghost2 = GhostModule(topology, mid_channels, out_channels, kernel_size=kernel_size, act=False)
        if strided or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                ConvNormAct(
                    topology, in_channels, in_channels, kernel_size, stride=stride, groups=in_channels, act=False
                ),
                ConvNormAct(topology, in_channels, out_channels, act=False),
            )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, Z, Y, X) -> (B, C', Z / stride, ...)."""
        return self.ghost2(self.depthwise(self.ghost1(x))) + self.shortcut(x)


class GhostStage(nn.Sequential):
    """A light entry with the stage's stride, then ``BLOCKS`` bottlenecks."""

    paper_blocks = (GhostBottleneck,)

    def __init__(self, in_channels: int, out_channels: int, plan: StagePlan) -> None:
        super().__init__()
        self.entry = LightEntry(plan.topology, in_channels, out_channels, plan.kernel_size, plan.stride)
        for i in range(BLOCKS):
            block = GhostBottleneck(
                plan.topology,
                out_channels,
                EXPANSION * out_channels,
                out_channels,
                kernel_size=plan.kernel_size,
                stride=(1,) * len(plan.stride),
            )
            self.add_module(f"block{i}", block)
