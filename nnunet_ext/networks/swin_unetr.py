"""SwinUNETR (Hatamizadeh et al. 2022, arXiv:2201.01266, MICCAI BrainLes): a shifted-window transformer as encoder.

Differences: written for 2D and 3D; strides, kernels, normalisation and activation from the plan, so that any size that
the plan's strides allow is taken without padding the volume. The network has the levels of the plan's first six stages
(fewer where the plan has fewer). Heads for deep supervision.
"""

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from nnunet_ext.networks.residual_decoder import ResidualBlock, ResidualDecoder
from nnunet_ext.networks.topology import Topology
from nnunet_ext.networks.transformer import TransformerBlock, initialize
from nnunet_ext.networks.weights import Network
from nnunet_ext.networks.window_attention import ShiftedWindowAttention

LEVELS = 6
DEPTH = 2  # blocks per level: one with plain, one with shifted windows
HEADS = 3  # at the first level with attention, doubled per level
WINDOW = 7


class PatchMerging(nn.Module):
    """Neighbours are concatenated, normalised and mixed, (B, Z, Y, X, C) -> (B, Z / stride, ..., 2C)."""

    def __init__(self, channels: int, stride: Sequence[int]) -> None:
        super().__init__()
        self.stride = tuple(stride)
        # the order is MONAI's, so that its weights fit: by number of odd axes, earlier axes first
        offsets = product(*map(range, stride))
        self.offsets = sorted(offsets, key=lambda offset: (sum(offset), [-o for o in offset]))
        self.norm = nn.LayerNorm(len(self.offsets) * channels)
        self.reduction = nn.Linear(len(self.offsets) * channels, 2 * channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """The map of the next level; axes must be divisible by the stride."""
        neighbours = [x[(slice(None), *map(slice, o, x.shape[1:-1], self.stride))] for o in self.offsets]
        return self.reduction(self.norm(torch.cat(neighbours, -1)))


class SwinStage(nn.Module):
    """The blocks of one level and the step to the next."""

    def __init__(self, channels: int, heads: int, stride: Sequence[int]) -> None:
        super().__init__()
        window = (WINDOW,) * len(stride)
        shifts = [tuple(w // 2 * (i % 2) for w in window) for i in range(DEPTH)]
        self.blocks = nn.Sequential(
            *(TransformerBlock(channels, ShiftedWindowAttention(channels, heads, window, s)) for s in shifts)
        )
        self.merging = PatchMerging(channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, Z, Y, X, C) -> (B, Z / stride, ..., 2C)."""
        return self.merging(self.blocks(x))


class SwinTransformer(nn.Module):
    """The encoder: (B, C, Z, Y, X) -> skips (B, C', ...) of ``widths`` channels, high to low resolution.

    Every map of the transformer leaves it through a layer norm without parameters and, but for the deepest skip, a
    residual block; level 0 is a residual block over the input.
    """

    def __init__(self, input_channels: int, topology: Topology, widths: Sequence[int]) -> None:
        super().__init__()
        strides, kernels, deepest = topology.strides, topology.kernel_sizes, len(widths) - 1
        self.output_channels = list(widths)
        self.patch_embed = topology.conv_op(input_channels, widths[1], strides[1], strides[1])
        self.stages = nn.ModuleList(
            SwinStage(widths[i], HEADS * 2 ** (i - 1), strides[i + 1]) for i in range(1, deepest)
        )
        self.skips = nn.ModuleList(
            nn.Identity() if i == deepest - 1 else ResidualBlock(topology, channels, widths[i], kernels[i])
            for i, channels in enumerate([input_channels, *widths[1:]])
        )

    def without_skips(self) -> None:
        """Drops what only a decoder reads: the residual blocks of all levels but the deepest."""
        for level in range(len(self.skips) - 1):
            self.skips[level] = nn.Identity()

    def stage_modules(self) -> list[list[nn.Module]]:
        """The transformer's stages, each with the block that its map leaves it through; the embedding is of none."""
        return [[stage, skip] for stage, skip in zip(self.stages, list(self.skips)[2:], strict=True)]

    def forward(self, x: Tensor) -> list[Tensor]:
        """One map per level."""
        maps = [self.patch_embed(x).movedim(1, -1)]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        normalised = (layer_norm(m, m.shape[-1:]).movedim(-1, 1).contiguous() for m in maps)
        return [skip(m) for skip, m in zip(self.skips, [x, *normalised], strict=True)]


def level_widths(topology: Topology, width: int) -> list[int]:
    """Channels per level, high to low resolution; ValueError for a plan of fewer than three stages."""
    if topology.n_stages < 3:
        raise ValueError(
            f"SwinUNETR needs a plan of at least 3 stages, this one has {topology.n_stages}; use a larger patch."
        )
    return [width, *(width * 2**i for i in range(min(LEVELS, topology.n_stages) - 1))]


class SwinUNETR(Network):
    """Shifted-window transformer and residual decoder.

    Input (B, C, Z, Y, X), output logits (B, K, Z, Y, X); with deep supervision a list of them from high to low
    resolution, one per stage of the plan but the lowest, in training and in evaluation mode alike. Axes must be
    divisible by the product of the plan's strides.

    Args:
        input_channels, num_classes: C and K.
        topology: the plan, of at least three stages.
        width: channels of the first two levels, doubled from there on; a multiple of 12.
        image_channels: not used, all input channels are read alike.
        deep_supervision: whether forward gives the list; may be changed at ``decoder.deep_supervision``.

    Raises:
        ValueError: the plan has fewer than three stages.
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
        self.encoder = SwinTransformer(input_channels, topology, widths)
        self.decoder = ResidualDecoder(topology, widths, num_classes, deep_supervision)

    @classmethod
    def pooled_encoder(
        cls, input_channels: int, topology: Topology, *, scales: int, width: int, image_channels: int | None = None
    ) -> SwinTransformer:
        """The encoder alone, for heads on its last maps."""
        encoder = SwinTransformer(input_channels, topology, level_widths(topology, width))
        encoder.without_skips()
        return encoder

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Logits for the input (B, C, Z, Y, X)."""
        return self.decoder(self.encoder(x))
