"""MobileUNETR (Perera et al. 2024, arXiv:2409.03062): MobileViT as encoder, its mirror image as decoder.

Differences: written for 2D and 3D; levels and strides come from nnU-Net's plan, so there is one more level, of plain
convolutions, at full resolution, where the paper interpolates its logits, and none below the plan's lowest, where the
paper has a bottleneck at a 64th; upsampling by transposed convolutions throughout; normalisation and the convolutions'
activation come from the plan; expansion 2 at every size; no dropout. Widths double per size: XS is the paper's "xxs",
and in 2D its encoder takes the weights of a published MobileViT.

A level is a resolution of the network, counted from 0 at the input's.
"""

from torch import Tensor, nn

from nnunet_ext.networks.backbones.mobilenetv2 import InvertedResidual
from nnunet_ext.networks.backbones.mobilevit import MobileViTBlock
from nnunet_ext.networks.layers import ConvNormAct
from nnunet_ext.networks.residual_decoder import ResidualDecoder
from nnunet_ext.networks.topology import Topology
from nnunet_ext.networks.transformer import initialize
from nnunet_ext.networks.weights import Network

# per level, in multiples of the first level's channels; deeper levels are like the last
WIDTHS = (1, 2, 3, 6, 8, 10)
FIRST_ATTENTION = 3  # level: an eighth of the resolution, or the deepest level where there are fewer
# per level from the first one with attention, in the same multiples
ATTENTION_WIDTHS = (8, 10, 12)
ATTENTION_DEPTHS = (2, 4, 3)
RESIDUALS = (0, 1, 3)  # inverted residuals per level before that


def inverted_residual(
    topology: Topology, in_channels: int, out_channels: int, level: int, *, strided: bool = False
) -> InvertedResidual:
    """One with the kernel of a level, and its stride if ``strided``."""
    stride = topology.strides[level] if strided else (1,) * topology.dims
    return InvertedResidual(
        topology, in_channels, out_channels, kernel_size=topology.kernel_sizes[level], stride=stride
    )


def attention(topology: Topology, width: int, level: int, unit: int) -> MobileViTBlock | None:
    """The MobileViT block of a level, if it has one; ``unit`` are the first level's channels."""
    order = level - min(FIRST_ATTENTION, topology.n_stages - 1)
    if order < 0:
        return None
    order = min(order, len(ATTENTION_DEPTHS) - 1)
    return MobileViTBlock(
        topology,
        width,
        topology.kernel_sizes[level],
        dim=unit * ATTENTION_WIDTHS[order],
        depth=ATTENTION_DEPTHS[order],
    )


class MobileEncoder(nn.Module):
    """(B, C, Z, Y, X) -> one map per level of the plan, high to low resolution.

    The two finest levels are entered by a plain convolution: an inverted residual would expand the channels there at
    full resolution.
    """

    def __init__(self, input_channels: int, topology: Topology, widths: list[int]) -> None:
        super().__init__()
        self.output_channels = widths
        self.stages = nn.ModuleList()
        for level, width in enumerate(widths):
            kernel, stride = topology.kernel_sizes[level], topology.strides[level]
            block = attention(topology, width, level, widths[0])
            n_residuals = 1 if block else RESIDUALS[level]
            blocks: list[nn.Module] = []
            if level < 2:
                blocks.append(ConvNormAct(topology, input_channels, width, kernel, stride=stride))
            else:
                blocks.append(inverted_residual(topology, input_channels, width, level, strided=True))
                n_residuals -= 1
            blocks += [inverted_residual(topology, width, width, level) for _ in range(n_residuals)]
            self.stages.append(nn.Sequential(*blocks, *([block] if block else [])))
            input_channels = width

    def stage_modules(self) -> list[list[nn.Module]]:
        """The module of each level."""
        return [[stage] for stage in self.stages]

    def forward(self, x: Tensor) -> list[Tensor]:
        """The maps of all levels."""
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


class MobileDecoder(ResidualDecoder):
    """Merges a level's maps by an inverted residual and attention; at full resolution by a plain convolution."""

    def stage(self, topology: Topology, level: int, width: int) -> nn.Module:
        """See the base class."""
        if level == 0:
            return ConvNormAct(topology, 2 * width, width, topology.kernel_sizes[level])
        merge = inverted_residual(topology, 2 * width, width, level)
        block = attention(topology, width, level, width // WIDTHS[min(level, len(WIDTHS) - 1)])
        return nn.Sequential(merge, block) if block else merge


def level_widths(topology: Topology, width: int) -> list[int]:
    """Channels per level, high to low resolution."""
    return [width * WIDTHS[min(level, len(WIDTHS) - 1)] for level in range(topology.n_stages)]


class MobileUNETR(Network):
    """MobileViT encoder and decoder.

    Input (B, C, Z, Y, X), output logits (B, K, Z, Y, X); with deep supervision a list of them from high to low
    resolution, one per stage of the plan but the lowest, in training and in evaluation mode alike. Axes must be
    divisible by the product of the plan's strides. 2D plans give a 2D network.

    Args:
        input_channels, num_classes: C and K.
        topology: the plan.
        width: channels at full resolution.
        image_channels: not used, all input channels are read alike.
        deep_supervision: whether forward gives the list; may be changed at ``decoder.deep_supervision``.
    """

    initialize = staticmethod(initialize)

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        topology: Topology,
        *,
        width: int,
        image_channels: int | None = None,
        deep_supervision: bool = False,
    ) -> None:
        super().__init__()
        widths = level_widths(topology, width)
        self.encoder = MobileEncoder(input_channels, topology, widths)
        self.decoder = MobileDecoder(topology, widths, num_classes, deep_supervision)

    @classmethod
    def pooled_encoder(
        cls, input_channels: int, topology: Topology, *, scales: int, width: int, image_channels: int | None = None
    ) -> MobileEncoder:
        """The encoder alone, for heads on its pooled maps: its stages are a chain, nothing is for a decoder only."""
        return MobileEncoder(input_channels, topology, level_widths(topology, width))

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Logits for the input (B, C, Z, Y, X)."""
        return self.decoder(self.encoder(x))
