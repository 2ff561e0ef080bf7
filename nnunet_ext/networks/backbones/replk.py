"""RepLKNet (Ding et al. 2022, arXiv:2203.06717, CVPR): depthwise convolutions of 13x13x13 voxels, helped by 5x5x5 ones.

Differences: written for 2D and 3D; normalisation and activation (but for the feed-forward's GELU) come from the plan.
The two depthwise convolutions are bare and one normalisation follows their sum: instance normalisation, whose
statistics depend on the input, could not be folded into the kernels. No normalisation ahead of a block, since each
block's first convolution is followed by one; no drop path. A stage is a depthwise convolution with the stride, a
pointwise one and two pairs of blocks.
"""

from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.nn.functional import pad
from torch.nn.modules.batchnorm import _BatchNorm

from nnunet_ext.networks.chain import in_turn
from nnunet_ext.networks.depthwise import Backend, DepthwiseConv
from nnunet_ext.networks.encoder import StagePlan
from nnunet_ext.networks.layers import ConvNormAct, LightEntry, enlarged
from nnunet_ext.networks.topology import Topology

LARGE, SMALL = 13, 5
PAIRS = 2  # of large kernels and feed-forward, per stage


class ReparamDepthwise(nn.Module):
    """Sum of a large and a small depthwise convolution, computed as the one convolution that it equals.

    The merged kernel is made from the current parameters in every pass, which costs nothing beside the convolution:
    there is no second state that could be out of date, and state-dict keys are those of the branches. Bare branches
    are merged in training as well; the gradients are those of the separate branches. With batch normalisation in the
    branches they are merged in evaluation, where its statistics are constant.

    Args:
        topology: operators.
        channels: of the input and the output (B, C, Z, Y, X).
        kernel_size, small_kernel: of the two branches, odd on every axis, the small one at most as large.
        stride: per axis, or one for all.
        backend: see :class:`DepthwiseConv`.
        branch_norm: channels -> a batch normalisation at the end of each branch; None for bare branches.
    """

    def __init__(
        self,
        topology: Topology,
        channels: int,
        kernel_size: Sequence[int],
        small_kernel: Sequence[int],
        *,
        stride: Sequence[int] | int = 1,
        backend: Backend | None = None,
        branch_norm: Callable[[int], _BatchNorm] | None = None,
    ) -> None:
        super().__init__()
        self.large = DepthwiseConv(topology, channels, kernel_size, stride=stride, backend=backend)
        self.small = DepthwiseConv(topology, channels, small_kernel, stride=stride, backend=backend)
        self.large_norm = branch_norm(channels) if branch_norm else None
        self.small_norm = branch_norm(channels) if branch_norm else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, Z, Y, X) -> (B, C, ceil(Z / stride), ...)."""
        if self.large_norm and self.small_norm and self.training:
            return self.large_norm(self.large(x)) + self.small_norm(self.small(x))
        return self.large.filter(x, *self.merged())

    def merged(self) -> tuple[Tensor, Tensor | None]:
        """Kernel (C, 1, ...) and bias (C,) of the convolution that equals both branches."""
        large, small = self.large.kernel, self.small.kernel
        bias = None
        if self.large_norm and self.small_norm:
            (large, bias), (small, small_bias) = _absorb(large, self.large_norm), _absorb(small, self.small_norm)
            bias = bias + small_bias
        margins = [(a - b) // 2 for a, b in zip(large.shape[2:], small.shape[2:], strict=True)]
        return large + pad(small, [m for margin in reversed(margins) for m in (margin, margin)]), bias


def _absorb(kernel: Tensor, norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """Kernel and bias of a convolution followed by a batch normalisation in evaluation."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return kernel * scale.view(-1, *(1,) * (kernel.ndim - 1)), norm.bias - norm.running_mean * scale


class RepLKBlock(nn.Module):
    """Pointwise, large depthwise and pointwise convolution around a shortcut; (B, C, Z, Y, X) to the same shape.

    An axis that the stage's kernel does not look across (size 1) is not looked across here either.
    """

    def __init__(
        self, topology: Topology, channels: int, kernel_size: Sequence[int], *, backend: Backend | None = None
    ) -> None:
        super().__init__()
        large, small = (enlarged(kernel_size, size) for size in (LARGE, SMALL))
        self.expand = ConvNormAct(topology, channels, channels)
        self.depthwise = ReparamDepthwise(topology, channels, large, small, backend=backend)
        self.norm = topology.norm(channels)
        self.act = topology.act()
        self.project = ConvNormAct(topology, channels, channels, act=False)

    def forward(self, x: Tensor) -> Tensor:
        """The maps plus what the large kernels see."""
        wide = in_turn(self.depthwise(self.expand(x)), self.depthwise, self.norm, self.act)
        return x + self.project(wide)


class ConvFFN(nn.Module):
    """Feed-forward network of pointwise convolutions around a shortcut, ``ratio`` times as wide inside."""

    def __init__(self, topology: Topology, channels: int, ratio: int) -> None:
        super().__init__()
        self.expand = ConvNormAct(topology, channels, ratio * channels, act=False)
        self.act = nn.GELU()
        self.project = ConvNormAct(topology, ratio * channels, channels, act=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, Z, Y, X) to the same shape."""
        return x + self.project(self.act(self.expand(x)))


class RepLKStage(nn.Sequential):
    """A light entry with the stride, then ``PAIRS`` times large kernels and feed-forward."""

    paper_blocks = (RepLKBlock,)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        plan: StagePlan,
        *,
        ffn_ratio: int = 4,
        backend: Backend | None = None,
    ) -> None:
        super().__init__()
        topology = plan.topology
        self.entry = LightEntry(topology, in_channels, out_channels, plan.kernel_size, plan.stride)
        for i in range(PAIRS):
            self.add_module(f"large{i}", RepLKBlock(topology, out_channels, plan.kernel_size, backend=backend))
            self.add_module(f"ffn{i}", ConvFFN(topology, out_channels, ffn_ratio))
