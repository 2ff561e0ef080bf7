"""ConvNeXt (Liu et al. 2022, arXiv:2201.03545, CVPR): a large depthwise convolution, then a perceptron per voxel.

Differences: written for 2D and 3D; two blocks a stage; no drop path; no layer scale, whose 1e-6 multiplies what a block
adds, and its gradients, at the start: ConvNeXt V2 (Woo et al. 2023, arXiv:2301.00808) and MedNeXt, the family's 3D form
in nnU-Net (Roy et al. 2023, arXiv:2303.09975), have none either. A stage is entered as in the paper, by a normalisation
and a convolution without overlap, which is dense, but holds less than a quarter of the encoder's parameters and MACs.
Layer normalisation over the channels of a voxel and GELU belong to the family and are not taken from the plan.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from nnunet_ext.networks.encoder import StagePlan
from nnunet_ext.networks.layers import convolution, enlarged
from nnunet_ext.networks.topology import Topology

KERNEL = 7
EXPANSION = 4
BLOCKS = 2
EPS = 1e-6


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of every voxel of (B, C, Z, Y, X)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=EPS)

    def forward(self, input: Tensor) -> Tensor:
        """Maps of the same shape."""
        voxels = input.movedim(1, -1)
        # as rows: for gradients in another layout a compiler foresees other strides than torch's kernel gives
        return super().forward(voxels.flatten(0, -2)).view(voxels.shape).movedim(-1, 1)


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution, normalisation and two pointwise convolutions, added to the input.

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

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, Z, Y, X) to the same shape."""
        return x + self.project(self.act(self.expand(self.norm(self.depthwise(x)))))


class ConvNeXtStage(nn.Sequential):
    """A normalisation, a convolution whose kernel is the stride, then ``BLOCKS`` blocks."""

    paper_blocks = (ConvNeXtBlock,)

    def __init__(self, in_channels: int, out_channels: int, plan: StagePlan) -> None:
        super().__init__()
        self.norm = ChannelNorm(in_channels)
        self.entry = convolution(plan.topology, in_channels, out_channels, plan.stride, stride=plan.stride, bias=True)
        for i in range(BLOCKS):
            self.add_module(f"block{i}", ConvNeXtBlock(plan.topology, out_channels, plan.kernel_size))
