"""The convolutions that all backbones share."""

from collections.abc import Sequence

from torch import nn

from nnunet_ext.networks.chain import Chain
from nnunet_ext.networks.topology import Topology


def enlarged(kernel_size: Sequence[int], size: int) -> tuple[int, ...]:
    """A kernel of ``size`` on every axis that the plan's kernel looks across, of 1 on the others."""
    return tuple(size if k > 1 else 1 for k in kernel_size)


def convolution(
    topology: Topology,
    in_channels: int,
    out_channels: int,
    kernel_size: Sequence[int] | int = 1,
    *,
    stride: Sequence[int] | int = 1,
    dilation: Sequence[int] | int = 1,
    groups: int = 1,
    bias: bool = False,
) -> nn.Module:
    """A convolution whose output has the input's size divided by the stride.

    Kernels are odd on every axis, or equal to the stride, which divides the input.
    """
    kernel = (kernel_size,) * topology.dims if isinstance(kernel_size, int) else tuple(kernel_size)
    step = (stride,) * topology.dims if isinstance(stride, int) else tuple(stride)
    rates = (dilation,) * topology.dims if isinstance(dilation, int) else tuple(dilation)
    # an axis that the plan does not look across (kernel 1) has nothing to dilate
    padding = tuple(rate * (k - 1) // 2 for rate, k in zip(rates, kernel, strict=True))
    return topology.conv_op(in_channels, out_channels, kernel, step, padding, dilation=rates, groups=groups, bias=bias)


class ConvNormAct(Chain):
    """Convolution, normalisation, activation (in this order); ``act=False`` leaves the activation out."""

    def __init__(
        self,
        topology: Topology,
        in_channels: int,
        out_channels: int,
        kernel_size: Sequence[int] | int = 1,
        *,
        stride: Sequence[int] | int = 1,
        dilation: Sequence[int] | int = 1,
        groups: int = 1,
        act: bool = True,
    ) -> None:
        super().__init__()
        # the normalisation's shift makes a bias of the convolution redundant, but nnU-Net's plans may ask for one
        self.conv = convolution(
            topology,
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            dilation=dilation,
            groups=groups,
            bias=topology.conv_bias,
        )
        self.norm = topology.norm(out_channels)
        if act:
            self.act = topology.act()


class LightEntry(nn.Sequential):
    """How light backbones enter a stage: a depthwise convolution with the stride, then a pointwise one.

    (B, C, Z, Y, X) -> (B, C', Z / stride, ...); each is followed by normalisation and activation (Howard et al. 2017,
    MobileNets, arXiv:1704.04861). It costs 27 C + C C' products per voxel of its output where a dense 3x3x3 convolution
    costs 27 C C', and expands no channels at the finer resolution, as strided bottlenecks do.
    """

    def __init__(
        self,
        topology: Topology,
        in_channels: int,
        out_channels: int,
        kernel_size: Sequence[int],
        stride: Sequence[int],
    ) -> None:
        super().__init__()
        self.depthwise = ConvNormAct(topology, in_channels, in_channels, kernel_size, stride=stride, groups=in_channels)
        self.pointwise = ConvNormAct(topology, in_channels, out_channels)
