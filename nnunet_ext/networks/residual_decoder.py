"""The convolutional half of UNETR and SwinUNETR: residual blocks and a decoder made of them.

Hatamizadeh et al. 2022 (arXiv:2103.10504, WACV). Shape letters: B batch, C channels, K classes, Z Y X axes of the
volume (Y X in 2D). A level is a resolution of the network, counted from 0 at the input's.
"""

from collections.abc import Sequence

import torch
from dynamic_network_architectures.building_blocks.helper import get_matching_convtransp
from torch import Tensor, nn
from torch.nn.functional import interpolate

from nnunet_ext.networks.layers import ConvNormAct, convolution
from nnunet_ext.networks.topology import Topology

LINEAR = {2: "bilinear", 3: "trilinear"}  # interpolation mode by number of spatial dimensions


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut, (B, C, Z, Y, X) -> (B, C', Z, Y, X)."""

    def __init__(self, topology: Topology, in_channels: int, out_channels: int, kernel_size: Sequence[int]) -> None:
        super().__init__()
        self.conv1 = ConvNormAct(topology, in_channels, out_channels, kernel_size)
        self.conv2 = ConvNormAct(topology, out_channels, out_channels, kernel_size, act=False)
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.shortcut = ConvNormAct(topology, in_channels, out_channels, act=False)
        self.act = topology.act()

    def forward(self, x: Tensor) -> Tensor:
        """The activation of the sum."""
        return self.act(self.conv2(self.conv1(x)) + self.shortcut(x))


def upsampling(topology: Topology, in_channels: int, out_channels: int, level: int) -> nn.Module:
    """A transposed convolution from ``level + 1`` to ``level``."""
    stride = topology.strides[level + 1]
    operator = get_matching_convtransp(conv_op=topology.conv_op)
    return operator(in_channels, out_channels, stride, stride, bias=topology.conv_bias)


class ResidualDecoder(nn.Module):
    """From the deepest level up: upsample, concatenate the skip, residual block.

    Modules are listed by order of computation, as in nnU-Net's own decoder: ``seg_layers[-1]`` gives the full
    resolution. Each level has one, used or not, so that a checkpoint loads with and without deep supervision.

    Args:
        topology: the plan; its stages beyond the last level have no maps of their own.
        widths: channels of the skips, high to low resolution.
        num_classes: K.
        deep_supervision: whether forward gives one map per stage of the plan but the lowest, high to low resolution.
    """

    def __init__(self, topology: Topology, widths: Sequence[int], num_classes: int, deep_supervision: bool) -> None:
        super().__init__()
        self.deep_supervision = deep_supervision
        self.mode = LINEAR[topology.dims]
        self.strides_below = topology.strides[len(widths) - 1 : -1]
        self.transpconvs, self.stages, self.seg_layers = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for level in reversed(range(len(widths) - 1)):
            width = widths[level]
            self.transpconvs.append(upsampling(topology, widths[level + 1], width, level))
            self.stages.append(self.stage(topology, level, width))
            self.seg_layers.append(convolution(topology, width, num_classes, bias=True))

    def stage(self, topology: Topology, level: int, width: int) -> nn.Module:
        """What merges the upsampled map and the skip of a level, (B, 2 C, Z, Y, X) -> (B, C, Z, Y, X)."""
        return ResidualBlock(topology, 2 * width, width, topology.kernel_sizes[level])

    def forward(self, skips: Sequence[Tensor]) -> Tensor | list[Tensor]:
        """Logits (B, K, Z, Y, X) for the skips (B, C, ...), high to low resolution."""
        x, maps = skips[-1], []
        for upsample, stage, skip in zip(self.transpconvs, self.stages, reversed(skips[:-1]), strict=True):
            x = stage(torch.cat((upsample(x), skip), 1))
            maps.append(x)
        if not self.deep_supervision:
            return self.seg_layers[-1](x)
        logits = [head(m) for head, m in zip(self.seg_layers, maps, strict=True)][::-1]
        for stride in self.strides_below:
            size = [s // t for s, t in zip(logits[-1].shape[2:], stride, strict=True)]
            logits.append(interpolate(logits[-1], size, mode=self.mode))
        return logits
