"""Multiply-accumulates (MACs) of single operators, from the shapes of their tensors.

torch's own formulas (``torch.utils.flop_counter``, 2 FLOPs per MAC) where they are right. Changed here:

* the weight gradient of a grouped convolution, which torch counts once per group too often;
* fast Fourier transforms, which torch counts as nothing: N log2(N) / 2 butterflies of one complex product, 4 real MACs
  each, half of it for real input or output (Cooley and Tukey 1965, doi:10.1090/S0025-5718-1965-0178586-1);
* products of complex tensors, which is what a convolution becomes in the frequency domain: 4 real MACs an element.

Element-wise real operators, normalisation, pooling and interpolation count as nothing, as in all published tables.
"""

from collections.abc import Callable, Mapping
from math import log2, prod
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry

aten = torch.ops.aten
REAL_PER_COMPLEX = 4


def _convolution(x: Tensor, weight: Tensor, out: Tensor, transposed: bool) -> int:
    """Each weight is used once for each position of the output; of the input, if transposed."""
    positions = (x if transposed else out).shape
    return positions[0] * prod(positions[2:]) * weight.numel()


def _convolution_backward(args: tuple[Any, ...], out: tuple[Tensor | None, ...]) -> int:
    """As many as forward, for the input's and for the weight's gradient where they are wanted."""
    upstream, x, weight, _bias, _stride, _padding, _dilation, transposed = args[:8]
    return _convolution(x, weight, upstream, transposed) * sum(gradient is not None for gradient in out[:2])


def _transform(args: tuple[Any, ...], points: Tensor, share: float) -> int:
    """``points``: the tensor in the domain in which it is largest."""
    length = prod(points.shape[d] for d in args[1])
    return round(share * points.numel() * log2(length) / 2 * REAL_PER_COMPLEX)


def _product(args: tuple[Any, ...], out: Tensor) -> int:
    complex_factors = all(isinstance(a, Tensor) and a.is_complex() for a in args[:2])
    return REAL_PER_COMPLEX * out.numel() if complex_factors else 0


Formula = Callable[[tuple[Any, ...], Any], int]
OURS: Mapping[Any, Formula] = {
    aten.convolution: lambda args, out: _convolution(args[0], args[1], out, args[6]),
    aten.convolution_backward: _convolution_backward,
    aten._fft_r2c: lambda args, out: _transform(args, args[0], 0.5),
    aten._fft_c2r: lambda args, out: _transform(args, out, 0.5),
    aten._fft_c2c: lambda args, out: _transform(args, out, 1.0),
    aten.mul: _product,
}


def macs(operator: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], out: Any) -> int:
    """MACs of one call of an operator (an ``OpOverload``) that returned ``out``."""
    packet = operator._overloadpacket
    if (ours := OURS.get(packet)) is not None:
        return ours(args, out)
    formula = flop_registry.get(packet)
    return 0 if formula is None else formula(*args, **kwargs, out_val=out) // 2
