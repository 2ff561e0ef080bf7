"""ShuffleNet (Zhang et al. 2018, arXiv:1707.01083, CVPR): bottlenecks of grouped convolutions with shuffled channels.

Differences: written for 2D and 3D; normalisation and activation come from the plan; a stage is one strided unit and one
residual unit; where the plan caps the channels, so that a strided unit has none to add to its pooled input, it is
summed with it instead of concatenated; two groups, which divide the channels of every size.
"""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

from nnunet_ext.networks.depthwise import depthwise
from nnunet_ext.networks.encoder import StagePlan
from nnunet_ext.networks.layers import ConvNormAct
from nnunet_ext.networks.topology import Topology

BOTTLENECK = 4  # output channels in multiples of those inside
GROUPS = 2


class MeanPool(nn.Module):
    """Mean over a window, zeros around the map included; (B, C, Z, Y, X) -> (B, C, ceil(Z / stride), ...).

    As a convolution because torch's pooling in 3D refuses maps smaller than the window, and bfloat16 on a CPU.
    """

    def __init__(self, kernel_size: Sequence[int], stride: Sequence[int]) -> None:
        super().__init__()
        self.kernel_size, self.stride = tuple(kernel_size), tuple(stride)

    def forward(self, x: Tensor) -> Tensor:
        """The means."""
        kernel = x.new_full((x.shape[1], 1, *self.kernel_size), 1 / prod(self.kernel_size))
        return depthwise(x, kernel, stride=self.stride, backend="direct")


class ShuffleUnit(nn.Module):
    """Pointwise, depthwise and pointwise convolution, joined with the (pooled) input.

    More channels than the input's are concatenated to it, otherwise it is a residual unit.

    Args:
        topology: operators.
        in_channels, out_channels: before and after.
        kernel_size, stride: of the plan's stage.
        groups: of the pointwise convolutions.
        first_groups: of the first of them where it differs.
    """

    def __init__(
        self,
        topology: Topology,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: Sequence[int],
        stride: Sequence[int],
        groups: int = GROUPS,
        first_groups: int | None = None,
    ) -> None:
        super().__init__()
        middle = out_channels // BOTTLENECK
        self.widens = out_channels > in_channels
        added = out_channels - in_channels if self.widens else out_channels
        self.compress = ConvNormAct(topology, in_channels, middle, groups=first_groups or groups)
        self.shuffle = nn.ChannelShuffle(groups)
        self.depthwise = ConvNormAct(topology, middle, middle, kernel_size, stride=stride, groups=middle, act=False)
        self.expand = ConvNormAct(topology, middle, added, groups=groups, act=False)
        self.pool: nn.Module = nn.Identity()
        if any(s > 1 for s in stride):
            self.pool = MeanPool(kernel_size, stride)
        self.act = topology.act()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, Z, Y, X) -> (B, C', Z / stride, ...)."""
        y = self.expand(self.depthwise(self.shuffle(self.compress(x))))
        return self.act(torch.cat((y, self.pool(x)), 1) if self.widens else y + self.pool(x))


class ShuffleNetStage(nn.Sequential):
    """A strided unit, which in stage 2 is not grouped at its narrow entry, then a residual one."""

    paper_blocks = (ShuffleUnit,)

    def __init__(self, in_channels: int, out_channels: int, plan: StagePlan) -> None:
        super().__init__()
        self.down = ShuffleUnit(
            plan.topology,
            in_channels,
            out_channels,
            kernel_size=plan.kernel_size,
            stride=plan.stride,
            first_groups=1 if plan.index == 1 else None,
        )
        self.unit = ShuffleUnit(
            plan.topology,
            out_channels,
            out_channels,
            kernel_size=plan.kernel_size,
            stride=(1,) * len(plan.stride),
        )
