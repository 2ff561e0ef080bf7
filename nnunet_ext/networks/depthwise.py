"""Depthwise convolution with large kernels, directly or by FFT.

On a CPU torch's direct form needs seconds to train a 13x13x13 kernel (``benchmarks/results/depthwise_cpu.md``), and its
CUDA form is one thread per voxel; by FFT the cost does not depend on the kernel.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv3d, pad

from nnunet_ext.networks.layers import convolution
from nnunet_ext.networks.topology import Topology

Backend = Literal["direct", "fft"]
FFT_FROM = 9  # kernel size from which the FFT form is also the faster one at inference
FAST_PRIMES = (2, 3, 5)


def depthwise(
    x: Tensor, kernel: Tensor, bias: Tensor | None = None, *, stride: Sequence[int], backend: Backend
) -> Tensor:
    """Each channel filtered by its own kernel, zeros around the map.

    Args:
        x: (B, C, Z, Y, X) or (B, C, Y, X).
        kernel: (C, 1, ...), odd on every axis.
        bias: (C,) or None.
        stride: per axis.
        backend: "direct" or "fft", the same function up to rounding. The FFT form computes in float32 (under autocast
            too, half precision has no FFT); on the meta device, where only costs are counted, both are direct.

    Returns:
        (B, C, ceil(Z / stride), ...) in the type of a convolution's output.
    """
    if backend == "direct" or x.is_meta:
        convolve = conv3d if x.ndim == 5 else conv2d
        padding = [k // 2 for k in kernel.shape[2:]]
        return convolve(x, kernel, bias, tuple(stride), padding, groups=x.shape[1])
    kind = x.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
    with torch.autocast(kind, enabled=False):
        wide = torch.promote_types(x.dtype, torch.float32)
        y = _correlate(x.to(wide), kernel.to(wide))
        y = y[:, :, *(slice(None, None, s) for s in stride)]
        if bias is not None:
            y = y + bias.view(-1, *(1,) * len(stride))
        return y.to(dtype)


def _correlate(x: Tensor, kernel: Tensor) -> Tensor:
    """sum_j kernel[j] x[i + j - centre] over a circle that is long enough for the zeros around the map."""
    sizes = x.shape[2:]
    # offsets beyond the map meet only zeros, so a small map needs but the middle of a large kernel
    reach = [min(k // 2, n - 1) for k, n in zip(kernel.shape[2:], sizes, strict=True)]
    middle = tuple(slice(k // 2 - r, k // 2 + r + 1) for k, r in zip(kernel.shape[2:], reach, strict=True))
    circle = [_fast_length(n + r) for n, r in zip(sizes, reach, strict=True)]
    axes = tuple(range(-len(sizes), 0))
    margins = [m for r in reversed(reach) for m in (r, 0)]
    maps = torch.fft.rfftn(pad(x, margins), s=circle, dim=axes)
    filters = torch.fft.rfftn(kernel.squeeze(1)[:, *middle], s=circle, dim=axes)
    y = torch.fft.irfftn(maps * filters.conj(), s=circle, dim=axes)
    return y[:, :, *(slice(n) for n in sizes)]


def _fast_length(n: int) -> int:
    """The next even length with no other prime factors than FFTs are fast with."""
    n += n % 2
    rest = n
    for prime in FAST_PRIMES:
        while rest % prime == 0:
            rest //= prime
    return n if rest == 1 else _fast_length(n + 2)


class DepthwiseConv(nn.Module):
    """Depthwise convolution without bias, (B, C, Z, Y, X) -> (B, C, ceil(Z / stride), ...).

    Args:
        topology: operators.
        channels: C.
        kernel_size: odd on every axis.
        stride: per axis, or one for all.
        backend: "direct" or "fft"; None means FFT for large kernels in 3D. May be changed at any time.
    """

    def __init__(
        self,
        topology: Topology,
        channels: int,
        kernel_size: Sequence[int],
        *,
        stride: Sequence[int] | int = 1,
        backend: Backend | None = None,
    ) -> None:
        super().__init__()
        self.backend = backend or ("fft" if topology.dims == 3 and max(kernel_size) >= FFT_FROM else "direct")
        # a module of its own for the sake of weight initialisers, which know convolutions by their class
        self.conv = convolution(topology, channels, channels, kernel_size, groups=channels)
        self.stride = (stride,) * topology.dims if isinstance(stride, int) else tuple(stride)

    @property
    def kernel(self) -> Tensor:
        """The parameter (C, 1, ...)."""
        weight = self.conv.weight
        assert isinstance(weight, Tensor)
        return weight

    def forward(self, x: Tensor) -> Tensor:
        """The filtered maps."""
        return self.filter(x, self.kernel)

    def filter(self, x: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
        """The same convolution with another kernel and bias."""
        return depthwise(x, kernel, bias, stride=self.stride, backend=self.backend)
