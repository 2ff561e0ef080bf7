"""MobileViT (Mehta and Rastegari 2022, arXiv:2110.02178, ICLR): attention among equal places of all patches.

Also the fusion of MobileViTv3 (Wadekar and Chaurasia 2022, arXiv:2209.15159).

Differences: written for 2D and 3D; normalisation and the convolutions' activation come from the plan; the transformer
is as wide as the stage; a stage is one strided inverted residual of MobileNetV2, as in the paper, with expansion 2, and
one MobileViT block, whose kxkxk convolutions are dense as the paper's are; no dropout.

A patch of p voxels along an axis splits the map into p^3 interleaved ones, and each of them attends within itself.
The patch of each axis is chosen from the map at hand, so that at least two tokens are left wherever the map has two
voxels (one token would attend to itself alone). Maps that the patch does not divide are padded, and the padding is
masked: interpolation to a multiple, as elsewhere, would blur the map.

Shape letters: B batch, C channels, P places in a patch, N patches, Z Y X axes of the volume (Y X in 2D).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from nnunet_ext.networks.backbones.mobilenetv2 import InvertedResidual
from nnunet_ext.networks.encoder import StagePlan
from nnunet_ext.networks.layers import ConvNormAct, convolution
from nnunet_ext.networks.topology import Topology
from nnunet_ext.networks.transformer import Mlp, SelfAttention, TransformerBlock

HEADS = 4
MLP_RATIO = 2


class PatchAttention(nn.Module):
    """A transformer among equal places of all patches, (B, C, Z, Y, X) to the same shape.

    Args:
        channels: C, a multiple of ``HEADS``.
        depth: number of transformer layers.
        patch: largest number of voxels of a patch along an axis.
    """

    def __init__(self, channels: int, depth: int, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.layers = nn.ModuleList(
            TransformerBlock(
                channels, SelfAttention(channels, HEADS, qkv_bias=True), Mlp(channels, MLP_RATIO, act=nn.SiLU)
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """The map with attention added."""
        sizes = x.shape[2:]
        patch = [max(1, min(self.patch, n // 2)) for n in sizes]
        missing = [-n % p for n, p in zip(sizes, patch, strict=True)]
        margins = [m for n in reversed(missing) for m in (0, n)]
        padded, mask = x, None
        if any(missing):
            padded = pad(x, margins)
            inside = to_tokens(pad(x.new_ones(1, 1, *sizes), margins), patch).bool()  # (P, N, 1)
            mask = inside[:, None, None, :, 0].repeat(len(x), 1, 1, 1)  # the same for all heads and queries
        tokens = to_tokens(padded, patch)
        for layer in self.layers:
            tokens = layer(tokens, mask)
        mixed = from_tokens(self.norm(tokens), patch, padded.shape)
        return mixed[:, :, *(slice(n) for n in sizes)]


def to_tokens(x: Tensor, patch: Sequence[int]) -> Tensor:
    """(B, C, Z, Y, X) -> (B P, N, C); the patch divides the map."""
    counts = [n // p for n, p in zip(x.shape[2:], patch, strict=True)]
    split = x.reshape(*x.shape[:2], *(v for pair in zip(counts, patch, strict=True) for v in pair))
    return split.permute(_order(len(patch))).reshape(-1, torch.Size(counts).numel(), x.shape[1])


def from_tokens(tokens: Tensor, patch: Sequence[int], shape: Sequence[int]) -> Tensor:
    """The inverse of :func:`to_tokens` for a map of this shape (B, C, Z, Y, X)."""
    counts = [n // p for n, p in zip(shape[2:], patch, strict=True)]
    order = _order(len(patch))
    inverse = [order.index(i) for i in range(len(order))]
    return tokens.reshape(shape[0], *patch, *counts, shape[1]).permute(inverse).reshape(tuple(shape))


def _order(dims: int) -> list[int]:
    """From (B, C, patches and place per axis in turn) to (B, places, patches, C)."""
    return [0, *range(3, 3 + 2 * dims, 2), *range(2, 2 + 2 * dims, 2), 1]


class MobileViTBlock(nn.Module):
    """Local features by convolution, global ones by attention, and their fusion; (B, C, Z, Y, X) to the same shape.

    Args:
        topology: operators.
        channels: C.
        kernel_size: of the convolutions.
        dim: channels of the transformer, a multiple of ``HEADS``.
        depth: number of its layers.
        patch: largest patch along an axis, in voxels.
        v3: whether the local convolution is depthwise, and local (not input) and global features are fused by a
            1x1x1 convolution around a shortcut.
    """

    def __init__(
        self,
        topology: Topology,
        channels: int,
        kernel_size: Sequence[int],
        *,
        dim: int,
        depth: int = 2,
        patch: int = 2,
        v3: bool = False,
    ) -> None:
        super().__init__()
        self.v3 = v3
        self.local = ConvNormAct(topology, channels, channels, kernel_size, groups=channels if v3 else 1)
        self.widen = convolution(topology, channels, dim)
        self.attention = PatchAttention(dim, depth, patch)
        self.project = ConvNormAct(topology, dim, channels)
        self.fusion = ConvNormAct(topology, (dim if v3 else channels) + channels, channels, 1 if v3 else kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        """Local and global features in one map."""
        local = self.widen(self.local(x))
        mixed = self.project(self.attention(local))
        if self.v3:
            return x + self.fusion(torch.cat((local, mixed), 1))
        return self.fusion(torch.cat((x, mixed), 1))


class MobileViTStage(nn.Sequential):
    """A strided inverted residual and a MobileViT block; the options are the block's."""

    paper_blocks = (InvertedResidual, MobileViTBlock)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        plan: StagePlan,
        *,
        depth: int = 2,
        patch: int = 2,
        v3: bool = False,
    ) -> None:
        super().__init__()
        topology, kernel = plan.topology, plan.kernel_size
        self.entry = InvertedResidual(topology, in_channels, out_channels, kernel_size=kernel, stride=plan.stride)
        self.block = MobileViTBlock(topology, out_channels, kernel, dim=out_channels, depth=depth, patch=patch, v3=v3)
