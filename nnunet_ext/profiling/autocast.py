"""CUDA's autocast for tensors that are not on a CUDA device.

torch applies a device's autocast to tensors of that device only; on meta tensors none applies, and the CPU's has other
lists: it leaves group_norm, softmax, pow, sum or interpolation in low precision, for example. The policy here
is that of ``ATen/autocast_mode.h`` (a test compares the names with it): convolutions and products in low precision,
norms, powers, losses and interpolation in fp32, a few others in the widest type of their arguments.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from types import TracebackType
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

DEVICE = "cuda"


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


LOWER = _names(
    """conv1d conv2d conv3d conv_tbc conv_transpose1d conv_transpose2d conv_transpose3d convolution prelu addmm addmv
    addr matmul einsum mm mv linalg_vecdot linear addbmm baddbmm bmm chain_matmul linalg_multi_dot
    scaled_dot_product_attention"""
)
FLOAT32 = _names(
    """acos asin cosh erfinv exp expm1 log log10 log2 log1p reciprocal rsqrt sinh tan pow softplus layer_norm rms_norm
    native_layer_norm group_norm frobenius_norm nuclear_norm cosine_similarity poisson_nll_loss cosine_embedding_loss
    nll_loss nll_loss2d hinge_embedding_loss kl_div l1_loss smooth_l1_loss huber_loss mse_loss margin_ranking_loss
    multilabel_margin_loss soft_margin_loss triplet_margin_loss multi_margin_loss binary_cross_entropy_with_logits dist
    pdist cdist renorm logsumexp interpolate upsample cross_entropy"""
)
FLOAT32_RESULT = _names("""prod softmax log_softmax cumprod cumsum linalg_vector_norm linalg_matrix_norm sum norm""")
WIDEST = _names("""addcdiv addcmul atan2 bilinear cross dot vdot grid_sampler index_put tensordot scatter_add""")
FUSED_SOFTMAX: Mapping[str, Callable[..., Tensor]] = {"softmax": torch._softmax, "log_softmax": torch._log_softmax}


class CudaAutocast(TorchFunctionMode):
    """Runs torch's functions in the precision in which CUDA's autocast runs them.

    Regions of ``torch.autocast("cuda", enabled=False)`` are respected. As in torch, a parameter is cast once and its
    copy kept until the end of the ``with`` statement.

    Args:
        dtype: the low precision, float16 or bfloat16.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self._copies: dict[int, Tensor] = {}
        self._before: tuple[bool, torch.dtype] = (False, dtype)

    def __enter__(self) -> "CudaAutocast":
        self._before = torch.is_autocast_enabled(DEVICE), torch.get_autocast_dtype(DEVICE)
        torch.set_autocast_enabled(DEVICE, True)
        torch.set_autocast_dtype(DEVICE, self.dtype)
        super().__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        super().__exit__(exc_type, exc_value, traceback)
        enabled, dtype = self._before
        torch.set_autocast_enabled(DEVICE, enabled)
        torch.set_autocast_dtype(DEVICE, dtype)
        self._copies.clear()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Casts the arguments of one function as its list says."""
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "").strip("_")
        if not torch.is_autocast_enabled(DEVICE):
            return func(*args, **kwargs)
        if name in LOWER:
            args, kwargs = self._cast((args, kwargs), self.dtype)
        elif name in FLOAT32:
            args, kwargs = self._cast((args, kwargs), torch.float32)
        elif name in WIDEST:
            args, kwargs = self._cast((args, kwargs), _widest((args, kwargs), self.dtype))
        elif name in FLOAT32_RESULT and _is_low(args[0]) and kwargs.get("dtype") is None:
            return _in_float32(func, name, args, kwargs)
        return func(*args, **kwargs)

    def _cast(self, values: Any, dtype: torch.dtype) -> Any:
        """Casts all tensors in the values; ``tree_map_only`` of torch takes several times as long."""
        if isinstance(values, Tensor):
            return self._cast_one(values, dtype)
        if isinstance(values, dict):
            return {name: self._cast(value, dtype) for name, value in values.items()}
        if isinstance(values, (list, tuple)):
            return type(values)([self._cast(value, dtype) for value in values])
        return values

    def _cast_one(self, tensor: Tensor, dtype: torch.dtype) -> Tensor:
        if tensor.dtype == dtype or not tensor.is_floating_point() or tensor.dtype == torch.float64:
            return tensor
        keep = tensor.requires_grad and tensor.is_leaf and not tensor._is_view() and dtype == self.dtype
        if not keep:
            return tensor.to(dtype)
        if id(tensor) not in self._copies:
            self._copies[id(tensor)] = tensor.to(dtype)
        return self._copies[id(tensor)]


def _is_low(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16)


def _widest(values: Any, low: torch.dtype) -> torch.dtype:
    found = []
    tree_map_only(Tensor, lambda tensor: found.append(tensor.dtype), values)
    return torch.float32 if torch.float32 in found else low


def _in_float32(func: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """CUDA's kernels read low and write high precision: no copy of the input is made."""
    if name in FUSED_SOFTMAX:
        dim = kwargs["dim"] if "dim" in kwargs else args[1]
        return FUSED_SOFTMAX[name](args[0], dim, True)
    return func(*args, **{**kwargs, "dtype": torch.float32})


Precision = Callable[[], AbstractContextManager[object]]
LOW = {"amp": torch.float16, "bf16": torch.bfloat16}


def precision_of(device: str, precision: str) -> Precision:
    """Makes the context of a forward pass: ours where meta tensors stand for CUDA's, else torch's own.

    Args:
        device: ``cuda`` (without one) or ``cpu``.
        precision: ``amp``, ``bf16`` or ``fp32``.

    Raises:
        ValueError: for ``amp`` on a CPU.
    """
    if device == "cpu":
        return device_precision(device, precision)
    return partial(CudaAutocast, LOW[precision]) if precision in LOW else nullcontext


def device_precision(device: str, precision: str) -> Precision:
    """The same for tensors that are on the device.

    Raises:
        ValueError: for ``amp`` on a CPU, whose autocast is another than CUDA's.
    """
    if precision == "amp" and device != DEVICE:
        raise ValueError("Precision amp means CUDA's autocast, which a CPU lacks; use fp32 or bf16.")
    return partial(torch.autocast, device, LOW.get(precision), enabled=precision in LOW)
