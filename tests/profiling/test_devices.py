"""What stands for CUDA: which of its kernels are assumed, and what a card holds beside tensors."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.costs.models import Input, choose
from benchmarks.costs.rows import CARDS, Request, Row
from nnunet_ext.networks.depthwise import FFT_FROM
from nnunet_ext.profiling import cost
from nnunet_ext.profiling.devices import stand_in

aten = torch.ops.aten
HALF, FULL = torch.float16, torch.float32
TOKENS = 128


class Operators(TorchDispatchMode):
    """What ran below autograd, and the largest tensor that was made."""

    def __init__(self):
        super().__init__()
        self.ran, self.largest = [], 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.ran.append(func._overloadpacket)
        tensors = out if isinstance(out, tuple) else (out,)
        self.largest = max(self.largest, *(t.numel() for t in tensors if isinstance(t, torch.Tensor)), 0)
        return out


def attend(head, dtype, *, masked):
    q, k, v = (torch.empty(1, 2, TOKENS, head, dtype=dtype, device="meta", requires_grad=True) for _ in range(3))
    mask = torch.empty(2, TOKENS, TOKENS, dtype=dtype, device="meta") if masked else None
    with stand_in("cuda"), Operators() as seen:
        out = scaled_dot_product_attention(q, k, v, attn_mask=mask)
    assert out.shape == q.shape
    return seen


@pytest.mark.parametrize(
    ("head", "dtype", "masked", "fused"),
    [  # flash attention: low precision, no mask, any head; the memory-efficient kernel: heads of 16 bytes
        (32, HALF, False, True),
        (20, HALF, False, True),
        (32, HALF, True, True),
        (20, HALF, True, False),
        (20, FULL, False, True),
        (18, FULL, False, False),
        (18, FULL, True, False),
        (20, FULL, True, True),
    ],
)
def test_attention_is_fused_where_cuda_has_a_kernel(head, dtype, masked, fused):
    seen = attend(head, dtype, masked=masked)
    assert (aten._scaled_dot_product_efficient_attention in seen.ran) == fused
    matrix = 2 * TOKENS * TOKENS
    assert (seen.largest < matrix) == (fused and not masked), "the attention matrix is made"


def depthwise(edge, channels=4, groups=4):
    x = torch.empty(1, channels, 16, 16, 16, device="meta")
    weight = torch.empty(channels, channels // groups, edge, edge, edge, device="meta")
    with stand_in("cuda"), Operators() as seen:
        out = torch.conv3d(x, weight, None, (1, 1, 1), edge // 2, 1, groups)
    assert out.shape == x.shape
    return set(seen.ran)


def test_large_depthwise_kernels_are_fourier_transforms_on_cuda():
    large = FFT_FROM + 1 - FFT_FROM % 2  # the first odd edge
    assert {aten._fft_r2c, aten._fft_c2r} <= depthwise(large)
    assert aten.convolution not in depthwise(large)
    for others in (depthwise(large - 2), depthwise(large, groups=1)):
        assert aten.convolution in others
        assert not {aten._fft_r2c, aten._fft_c2r} & others


def test_a_card_holds_more_than_tensors():
    """2.5 GB of each card are held back; by hand: 5.5 GB of tensors are what a card of 8 GB takes, and no byte more."""
    assert cost.RESERVE == 2.5 * 2**30
    (model,) = choose(["unet3d_xs"], Input(patch=(32, 32, 32)))

    class Sized(Row):
        total_train = 5.5 * 2**30

    class Larger(Row):
        total_train = 5.5 * 2**30 + 1

    assert Sized(model, Request()).record()["card_gb"] == 8
    assert Sized(model, Request()).fits == [card for card in CARDS if card >= 8]
    assert Larger(model, Request()).fits == [card for card in CARDS if card > 8]
