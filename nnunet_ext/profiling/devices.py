"""Stand-ins for devices: tensors without memory that are treated as on the device in question.

* CPU: torch's fake tensors, which take every choice that depends on the device as real ones would.
* CUDA: meta tensors, because fake ones need a GPU. What torch would run otherwise than on CUDA is replaced here:

  - attention, which is written out for meta tensors and would keep every attention matrix for the backward pass; CUDA
    has fused kernels that keep one number per token (``ATen/native/transformers/cuda/sdp_utils.cpp`` has the rules);
  - large depthwise kernels, which :mod:`nnunet_ext.networks.depthwise` writes as plain convolutions for meta tensors,
    so that their multiply-accumulates are those of the definition; on a device they are Fourier transforms.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from nnunet_ext.networks.depthwise import FFT_FROM, _correlate

Device = Literal["cuda", "cpu"]
aten = torch.ops.aten
ALIGNMENT = {torch.float32: 4, torch.float16: 8, torch.bfloat16: 8}  # of a head's channels in CUDA's fused kernels


@contextmanager
def stand_in(device: Device) -> Iterator[str]:
    """Within it, tensors made on the yielded device stand for tensors on ``device``."""
    if device == "cpu":
        with FakeTensorMode():
            yield "cpu"
    else:
        with CudaKernels():
            yield "meta"


def place(network: nn.Module, device: str) -> None:
    """Gives a network on the meta device parameters and buffers on a stand-in."""
    if device == "meta":
        return
    for module in network.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            empty = torch.empty(parameter.shape, dtype=parameter.dtype, device=device)
            setattr(module, name, nn.Parameter(empty, parameter.requires_grad))
        for name, buffer in list(module.named_buffers(recurse=False)):
            setattr(module, name, torch.empty(buffer.shape, dtype=buffer.dtype, device=device))


class CudaKernels(TorchFunctionMode):
    """Runs functions on meta tensors as CUDA would."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Replaces attention and large depthwise convolutions."""
        kwargs = dict(kwargs or {})
        if func is scaled_dot_product_attention:
            return _attend(*args, **kwargs)
        if func is torch.conv3d and _is_large_depthwise(args[0], args[1]):
            return _filter(*args, **kwargs)
        return func(*args, **kwargs)


def _attend(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, **options: Any) -> Tensor:
    """q, k, v: (B, H, N, D); the mask is added and broadcast to (B, H, N, N)."""
    unusual = any(options.values())  # dropout, causal, another scale: in no network here
    if unusual or not _is_fused(q, attn_mask):
        return scaled_dot_product_attention(q, k, v, attn_mask=attn_mask, **options)
    bias = None if attn_mask is None else attn_mask.expand(*q.shape[:3], k.shape[2])
    return aten._scaled_dot_product_efficient_attention(q, k, v, bias, torch.is_grad_enabled())[0]


def _is_fused(q: Tensor, mask: Tensor | None) -> bool:
    """The flash kernel takes any head in low precision but no mask, the memory-efficient one only aligned heads."""
    return q.shape[-1] % ALIGNMENT[q.dtype] == 0 or (mask is None and q.dtype != torch.float32)


def _is_large_depthwise(x: Tensor, weight: Tensor) -> bool:
    return weight.shape[:2] == (x.shape[1], 1) and max(weight.shape[2:]) >= FFT_FROM


def _filter(x: Tensor, kernel: Tensor, bias: Tensor | None, stride: Sequence[int], *_: Any, **__: Any) -> Tensor:
    """The FFT form of :func:`nnunet_ext.networks.depthwise.depthwise`."""
    y = _correlate(x.float(), kernel.float())[:, :, *(slice(None, None, s) for s in stride)]
    if bias is not None:
        y = y + bias.view(-1, *(1,) * len(stride))
    return y.to(x.dtype)
