"""MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381, CVPR): residuals whose inside is wider than their ends.

Optionally dilated, and with channels mixed as in ShuffleNetV2 (Ma et al. 2018, arXiv:1807.11164, ECCV): a block changes
half of them, then all are shuffled.

Differences: written for 2D and 3D; normalisation and activation come from the plan; a stage is entered by a depthwise
convolution with the stride and a pointwise one, because in 3D the paper's strided block expands its channels at eight
times the voxels; then come two blocks. Rates are lowered where the map is small (:meth:`Topology.dilation`).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nnunet_ext.networks.encoder import StagePlan
from nnunet_ext.networks.layers import ConvNormAct, LightEntry
from nnunet_ext.networks.topology import Topology

EXPANSION = 2


class InvertedResidual(nn.Module):
    """Pointwise expansion, depthwise convolution and linear projection; a shortcut where the shape stays.

    Args:
        topology: operators.
        in_channels, out_channels: before and after.
        kernel_size, stride, dilation: of the depthwise convolution.
    """

    def __init__(
        self,
        topology: Topology,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: Sequence[int],
        stride: Sequence[int] | int = 1,
        dilation: Sequence[int] | int = 1,
    ) -> None:
        super().__init__()
        hidden = EXPANSION * in_channels
        self.expand = ConvNormAct(topology, in_channels, hidden)
        self.depthwise = ConvNormAct(
            topology, hidden, hidden, kernel_size, stride=stride, dilation=dilation, groups=hidden
        )
        self.project = ConvNormAct(topology, hidden, out_channels, act=False)
        steps = {stride} if isinstance(stride, int) else set(stride)
        self.residual = in_channels == out_channels and steps == {1}

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, Z, Y, X) -> (B, C', Z / stride, ...)."""
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class ShuffledResidual(nn.Module):
    """Half of the channels pass, half go through an inverted residual, all are shuffled; (B, C, Z, Y, X), C even."""

    def __init__(
        self, topology: Topology, channels: int, *, kernel_size: Sequence[int], dilation: Sequence[int] | int
    ) -> None:
        super().__init__()
        half = channels // 2
        self.block = InvertedResidual(topology, half, half, kernel_size=kernel_size, dilation=dilation)
        self.shuffle = nn.ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        """Maps of the same shape."""
        kept, changed = x.chunk(2, 1)
        return self.shuffle(torch.cat((kept, self.block(changed)), 1))


class MobileNetV2Stage(nn.Sequential):
    """A light entry with the stride, then one block per dilation; ``shuffle`` chooses :class:`ShuffledResidual`."""

    paper_blocks = (InvertedResidual,)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        plan: StagePlan,
        *,
        dilations: Sequence[int] = (1, 1),
        shuffle: bool = False,
    ) -> None:
        super().__init__()
        topology, kernel = plan.topology, plan.kernel_size
        self.entry = LightEntry(topology, in_channels, out_channels, kernel, plan.stride)
        for i, dilation in enumerate(map(plan.dilation, dilations)):
            block = (
                ShuffledResidual(topology, out_channels, kernel_size=kernel, dilation=dilation)
                if shuffle
                else InvertedResidual(topology, out_channels, out_channels, kernel_size=kernel, dilation=dilation)
            )
            self.add_module(f"block{i}", block)
