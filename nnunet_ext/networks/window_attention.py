"""Attention within shifted windows, with a learnt bias by relative position (Liu et al. 2021, arXiv:2103.14030, ICCV).

No attention matrix is kept for the backward pass: it is computed again, a few windows at a time.

Shape letters: B batch, Z Y X axes of the map (Y X in 2D), C channels, W windows, H heads, N tokens of a window,
D channels of a head. Maps have their channels last.
"""

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad, scaled_dot_product_attention

from nnunet_ext.networks.transformer import position_parameter, split_heads

# Added between tokens that only the cyclic shift made neighbours: their weight is exactly 0, also in half precision.
# MONAI's -100 leaves subnormal weights of 1e-44 instead, which make a CPU several times slower.
MASKED = -1e4
# Entries of the attention matrices that exist at a time: few for a CPU's cache, many for all units of a GPU.
CPU_CHUNK, CHUNK = 2**20, 2**24


def partition(x: Tensor, window: Sequence[int]) -> Tensor:
    """(B, Z, Y, X, C) -> (B * W, N, C); the window divides the axes."""
    for axis, size in enumerate(window):
        x = x.unflatten(2 * axis + 1, (-1, size))
    dims = len(window)
    order = [0, *range(1, 2 * dims, 2), *range(2, 2 * dims + 1, 2), 2 * dims + 1]
    return x.permute(order).reshape(-1, prod(window), x.shape[-1])


def departition(windows: Tensor, window: Sequence[int], size: Sequence[int]) -> Tensor:
    """The inverse of :func:`partition` for a map of ``size`` (Z, Y, X)."""
    dims = len(window)
    grid = [s // w for s, w in zip(size, window, strict=True)]
    x = windows.reshape(-1, *grid, *window, windows.shape[-1])
    order = [0, *(a for axis in range(dims) for a in (1 + axis, 1 + dims + axis)), 2 * dims + 1]
    return x.permute(order).reshape(-1, *size, windows.shape[-1])


def places(axis: int, size: Sequence[int], device: torch.device) -> Tensor:
    """Positions along one axis, broadcast over a map of ``size`` (Z, Y, X)."""
    return torch.arange(size[axis], device=device).reshape([-1 if a == axis else 1 for a in range(len(size))])


def relative_index(window: Sequence[int], device: torch.device) -> Tensor:
    """(N, N): which row of the bias table belongs to the offset between two tokens of a full window."""
    index = torch.zeros((), dtype=torch.long, device=device)
    for axis, size in enumerate(window):
        place = places(axis, window, device).expand(*window).flatten()
        index = index * (2 * size - 1) + (place[:, None] - place[None, :] + size - 1)
    return index


def shifted_regions(size: Sequence[int], window: Sequence[int], shift: Sequence[int], device: torch.device) -> Tensor:
    """(W, N): tokens of one window attend to each other where their numbers agree, for a map rolled by ``-shift``."""
    region = torch.zeros((), dtype=torch.long, device=device)
    for axis, (length, width, step) in enumerate(zip(size, window, shift, strict=True)):
        place = places(axis, size, device)
        region = region * 3 + (place >= length - width).long() + (place >= length - step).long()
    return partition(region[None, ..., None], window).squeeze(-1)


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, regions: Tensor | None) -> Tensor:
    """Attention in all windows at once.

    Args:
        q: (W, H, N, D), queries.
        k: (W, H, N, D), keys.
        v: (W, H, N, D), values.
        bias: (H, N, N), added to the scaled products of q and k.
        regions: (W, N), see :func:`shifted_regions`; None where every token of a window sees every other.
    """
    return scaled_dot_product_attention(q, k, v, attn_mask=_mask(bias, regions).to(q.dtype))


def _mask(bias: Tensor, regions: Tensor | None) -> Tensor:
    """(1 or W, H, N, N), added to the products."""
    if regions is None:
        return bias[None]
    differ = regions[:, None, :, None] != regions[:, None, None, :]
    return bias[None] + differ * MASKED


def gradients(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, regions: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of :func:`attend` by q, k, v and bias for the gradient (W, H, N, D) of its result.

    Written out, for a compiler does not follow :func:`torch.autograd.grad` into a backward pass.
    """
    scale = q.shape[-1] ** -0.5
    weights = (scale * q @ k.mT + _mask(bias, regions).to(q.dtype)).softmax(-1)
    of_weights = grad @ v.mT
    of_products = (of_weights - (of_weights * weights).sum(-1, keepdim=True)) * weights
    of_bias = of_products.sum(0, dtype=bias.dtype)
    return scale * of_products @ k, scale * of_products.mT @ q, weights.mT @ grad, of_bias


class RecomputedAttention(torch.autograd.Function):
    """:func:`attend`, some windows at a time, that keeps its arguments only and computes the rest again for gradients.

    The forward pass runs without a graph: the CPU has a fused kernel for a bias that needs no gradient.
    """

    @staticmethod
    def forward(ctx: Any, *arguments: Tensor) -> Tensor:
        """The arguments are those of ``attend``."""
        ctx.save_for_backward(*arguments)
        return torch.cat([attend(*chunk) for chunk in _chunks(*arguments)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of q, k, v and bias."""
        size = _chunk_size(ctx.saved_tensors[3])
        chunks = zip(grad.split(size), _chunks(*ctx.saved_tensors), strict=True)
        of_q, of_k, of_v, of_bias = zip(*(gradients(of_chunk, *chunk) for of_chunk, chunk in chunks), strict=True)
        return torch.cat(of_q), torch.cat(of_k), torch.cat(of_v), sum(of_bias[1:], of_bias[0]), None


def _chunk_size(bias: Tensor) -> int:
    """How many windows are worked on at a time."""
    return max(1, (CPU_CHUNK if bias.device.type == "cpu" else CHUNK) // bias.numel())


def _chunks(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, regions: Tensor | None) -> Iterator[tuple[Any, ...]]:
    size = _chunk_size(bias)
    for i in range(0, len(q), size):
        part = slice(i, i + size)
        yield q[part], k[part], v[part], bias, None if regions is None else regions[part]


class ShiftedWindowAttention(nn.Module):
    """Attention within windows of a map, (B, Z, Y, X, C) -> the same.

    Axes not longer than the window have one window of their own length and are not shifted; other axes are padded to
    a multiple of the window. As in MONAI's implementation, a smaller window uses the first rows and columns of the
    full window's relative positions, and padded tokens are attended to.

    Args:
        channels: C.
        heads: H, a divisor of C.
        window: full size of the window (z, y, x).
        shift: how far the windows are moved against those of an unshifted layer (z, y, x).
    """

    def __init__(self, channels: int, heads: int, window: Sequence[int], shift: Sequence[int]) -> None:
        super().__init__()
        self.heads, self.window, self.shift = heads, tuple(window), tuple(shift)
        self.bias_table = position_parameter(prod(2 * w - 1 for w in window), heads)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Mixes the tokens of each window."""
        size = x.shape[1:-1]
        window = [min(s, w) for s, w in zip(size, self.window, strict=True)]
        shift = [d if s > w else 0 for s, w, d in zip(size, self.window, self.shift, strict=True)]
        missing = [-s % w for s, w in zip(size, window, strict=True)]
        x = pad(x, [0, 0, *(p for m in reversed(missing) for p in (0, m))])
        padded, axes, regions = x.shape[1:-1], tuple(range(1, x.ndim - 1)), None
        if any(shift):
            x = x.roll([-d for d in shift], axes)
            regions = shifted_regions(padded, window, shift, x.device).repeat(len(x), 1)
        x = departition(self.in_windows(partition(x, window), regions), window, padded)
        if any(shift):
            x = x.roll(shift, axes)
        return x[(slice(None), *map(slice, size))]

    def in_windows(self, x: Tensor, regions: Tensor | None) -> Tensor:
        """(W, N, C) -> (W, N, C)."""
        tokens = x.shape[1]
        index = relative_index(self.window, x.device)[:tokens, :tokens]
        bias = self.bias_table[index].permute(2, 0, 1)
        mixed = RecomputedAttention.apply(*split_heads(self.qkv(x), self.heads), bias, regions)
        return self.proj(mixed.transpose(1, 2).flatten(2))
