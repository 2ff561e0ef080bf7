"""UNETR (Hatamizadeh et al. 2022, arXiv:2103.10504, WACV): a vision transformer as encoder of a convolutional decoder.

Differences: written for 2D and 3D; strides, kernels, normalisation and activation from the plan. The transformer's
patches are what the plan's first five stages (fewer where the plan has fewer) shrink to one voxel: 16 x 16 x 16 where
each of them halves. The position table is interpolated for another input size. No unused parameters. Layers are tapped
where MONAI's implementation taps them (after the 4th, 7th and 10th), one later than in the paper.
"""

from torch import Tensor, nn
from torch.nn.functional import interpolate

from nnunet_ext.networks.residual_decoder import LINEAR, ResidualBlock, ResidualDecoder, upsampling
from nnunet_ext.networks.topology import Topology
from nnunet_ext.networks.transformer import SelfAttention, TransformerBlock, initialize, position_parameter
from nnunet_ext.networks.weights import Network

LEVELS = 5
DEPTH = 12
HEADS = 12
PATCH_SIZE = 128  # per axis, for the position table, where the plan's is not known


class Lift(nn.Sequential):
    """From the transformer's resolution up to ``level``: upsampling, with a residual block between every two."""

    def __init__(self, topology: Topology, hidden: int, width: int, level: int, deepest: int) -> None:
        super().__init__(upsampling(topology, hidden, width, deepest - 1))
        for i in reversed(range(level, deepest - 1)):
            self.append(upsampling(topology, width, width, i))
            self.append(ResidualBlock(topology, width, width, topology.kernel_sizes[i]))


class VisionTransformer(nn.Module):
    """The encoder: (B, C, Z, Y, X) -> skips (B, C', ...) of ``widths`` channels, high to low resolution.

    Level 0 is a residual block over the input, the deepest is the transformer's output, those between are taken from
    inner layers of the transformer.
    """

    def __init__(self, input_channels: int, topology: Topology, widths: list[int]) -> None:
        super().__init__()
        deepest, hidden = len(widths) - 1, widths[-1]
        self.output_channels, self.deepest = widths, deepest
        patch = topology.reduction(deepest)
        planned = topology.patch_size or (PATCH_SIZE,) * topology.dims
        self.mode = LINEAR[topology.dims]
        self.taps = [DEPTH * level // deepest for level in range(1, deepest)]
        self.patch_embed = topology.conv_op(input_channels, hidden, patch, patch)
        self.position = position_parameter(1, hidden, *(-(-s // p) for s, p in zip(planned, patch, strict=True)))
        self.blocks = nn.ModuleList(TransformerBlock(hidden, SelfAttention(hidden, HEADS)) for _ in range(DEPTH))
        self.norm = nn.LayerNorm(hidden)
        self.skips = nn.ModuleList([ResidualBlock(topology, input_channels, widths[0], topology.kernel_sizes[0])])
        self.skips.extend(Lift(topology, hidden, widths[i], i, deepest) for i in range(1, deepest))

    def without_skips(self) -> None:
        """Drops what only a decoder reads: all maps but the transformer's output."""
        self.taps, self.skips = [], nn.ModuleList()
        self.output_channels = self.output_channels[-1:]

    def stage_modules(self) -> list[list[nn.Module]]:
        """The transformer's layers in as many equal parts as there are levels below the first.

        A map leaves the transformer after each part, and by its skip where there is one. The embedding is of none.
        """
        parts = self.deepest
        ends = [DEPTH * (part + 1) // parts for part in range(parts)]
        stages: list[list[nn.Module]] = [
            list(self.blocks)[before:end] for before, end in zip([0, *ends], ends, strict=False)
        ]
        for stage, skip in zip(stages, list(self.skips)[1:], strict=False):
            stage.append(skip)
        stages[-1].append(self.norm)
        return stages

    def forward(self, x: Tensor) -> list[Tensor]:
        """One map per level."""
        embedded = self.patch_embed(x)
        grid = embedded.shape[2:]
        fits = self.position.shape[2:] == grid
        position = self.position if fits else interpolate(self.position, grid, mode=self.mode)
        tokens = (embedded + position).flatten(2).transpose(1, 2)  # (B, N, C)
        tapped = []
        for i, block in enumerate(self.blocks):
            tokens = block(tokens)
            if i in self.taps:
                tapped.append(tokens)
        *inner, deepest = [t.transpose(1, 2).unflatten(2, grid) for t in (*tapped, self.norm(tokens))]
        read = [x, *inner] if len(self.skips) else []
        return [*(skip(m) for skip, m in zip(self.skips, read, strict=True)), deepest]


def level_widths(topology: Topology, width: int, hidden: int) -> list[int]:
    """Channels per level, high to low resolution; the deepest is the transformer's."""
    return [*(width * 2**level for level in range(min(LEVELS, topology.n_stages) - 1)), hidden]


class UNETR(Network):
    """Vision transformer and residual decoder.

    Input (B, C, Z, Y, X), output logits (B, K, Z, Y, X); with deep supervision a list of them from high to low
    resolution, one per stage of the plan but the lowest, in training and in evaluation mode alike. Axes must be
    divisible by the product of the plan's strides.

    Args:
        input_channels, num_classes: C and K.
        topology: the plan.
        width: channels at full resolution, doubled per level.
        hidden: channels of the transformer.
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
        hidden: int,
        image_channels: int | None = None,
        deep_supervision: bool = False,
    ) -> None:
        super().__init__()
        widths = level_widths(topology, width, hidden)
        self.encoder = VisionTransformer(input_channels, topology, widths)
        self.decoder = ResidualDecoder(topology, widths, num_classes, deep_supervision)

    @classmethod
    def pooled_encoder(
        cls,
        input_channels: int,
        topology: Topology,
        *,
        scales: int,
        width: int,
        hidden: int,
        image_channels: int | None = None,
    ) -> VisionTransformer:
        """The encoder alone, for heads on the transformer's output: its other maps are lifted for a decoder."""
        encoder = VisionTransformer(input_channels, topology, level_widths(topology, width, hidden))
        encoder.without_skips()
        return encoder

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Logits for the input (B, C, Z, Y, X)."""
        return self.decoder(self.encoder(x))
