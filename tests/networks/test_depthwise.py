"""The FFT form of the depthwise convolution against torch's direct one, in value and gradient."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from nnunet_ext.networks.depthwise import DepthwiseConv, depthwise
from tests.networks.oracles import maps, operators

AXES = st.tuples(st.sampled_from([1, 3, 5, 9, 13]), st.integers(1, 9), st.integers(1, 2))  # kernel, size, stride


def value_and_gradients(backend, x, kernel, bias, stride):
    inputs = [t.clone().requires_grad_() for t in (x, kernel, bias)]
    y = depthwise(*inputs, stride=stride, backend=backend)
    y.backward(maps(*y.shape, seed=2).to(y.dtype))
    return [y.detach(), *(t.grad for t in inputs)]


# at least two channels: with one it is a dense convolution, whose backward pass in oneDNN (torch 2.15, AVX-512) writes
# beyond its buffers for kernels from 7 with stride 2 and ends the process; no network here has such a convolution
@given(axes=st.lists(AXES, min_size=2, max_size=3), channels=st.integers(2, 3), batch=st.integers(1, 2))
def test_both_forms_are_one_function(axes, channels, batch):
    kernel_size, size, stride = zip(*axes, strict=True)
    given = maps(batch, channels, *size), maps(channels, 1, *kernel_size), maps(channels)
    direct, fft = (value_and_gradients(backend, *given, stride) for backend in ("direct", "fft"))
    for expected, found in zip(direct, fft, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_the_kernel_is_correlated_not_convolved():
    kernel = torch.zeros(1, 1, 1, 1, 9)
    kernel[..., 0] = 1  # looks four voxels to the left
    x = torch.arange(8.0).view(1, 1, 1, 1, 8)
    found = depthwise(x, kernel, stride=(1, 1, 1), backend="fft")
    torch.testing.assert_close(found.flatten(), torch.tensor([0.0, 0, 0, 0, 0, 1, 2, 3]))


def test_double_precision_stays_double():
    x, kernel, bias = (t.double() for t in (maps(1, 2, 5, 4, 6), maps(2, 1, 9, 9, 9), maps(2)))
    direct, fft = (value_and_gradients(backend, x, kernel, bias, (1, 1, 1)) for backend in ("direct", "fft"))
    for expected, found in zip(direct, fft, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("autocast", [True, False], ids=["autocast", "half weights"])
def test_half_precision_is_computed_in_single(autocast):
    x, kernel, bias = maps(1, 2, 6, 6, 6), maps(2, 1, 9, 9, 9), maps(2)
    exact = depthwise(x.bfloat16().float(), kernel.bfloat16().float(), bias, stride=(1, 1, 1), backend="fft")
    if autocast:
        x = x.bfloat16().float()
        kernel = kernel.bfloat16().float()
    else:
        x, kernel, bias = x.bfloat16(), kernel.bfloat16(), bias.bfloat16()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = value_and_gradients("fft", x, kernel, bias, (1, 1, 1))
    assert found[0].dtype == torch.bfloat16
    assert all(f.isfinite().all() for f in found)
    torch.testing.assert_close(found[0].float(), exact, rtol=0.01, atol=0.05)


def test_large_kernels_in_3d_go_by_fft_unless_told_otherwise():
    def backend(dims, kernel, wanted=None):
        return DepthwiseConv(operators(dims), 2, kernel, backend=wanted).backend

    assert backend(3, (9, 9, 9)) == backend(3, (1, 13, 13)) == "fft"
    assert backend(3, (7, 7, 7)) == backend(2, (13, 13)) == backend(3, (13, 13, 13), "direct") == "direct"


def test_costs_are_counted_as_those_of_the_convolution():
    conv = DepthwiseConv(operators(3), 2, (9, 9, 9))
    x = torch.empty(1, 2, 8, 8, 8)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        copy.deepcopy(conv).to("meta")(x.to("meta"))
    assert counter.get_total_flops() == 2 * 2 * 9**3 * 8**3


def test_the_module_filters_with_its_kernel():
    conv = DepthwiseConv(operators(3), 2, (9, 9, 9), stride=(1, 2, 2))
    x = maps(1, 2, 4, 6, 5)
    expected = torch.nn.functional.conv3d(x, conv.conv.weight, stride=(1, 2, 2), padding=4, groups=2)
    torch.testing.assert_close(conv(x), expected, rtol=1e-4, atol=1e-5)
    assert list(conv.state_dict()) == ["conv.weight"]
