from math import log2, prod

import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from nnunet_ext.networks import registry
from nnunet_ext.profiling.devices import CudaKernels
from nnunet_ext.profiling.predict import evaluated, predict
from nnunet_ext.profiling.tracker import Tracker
from tests.profiling.small import PATCH, build

INPUT = (1, 4, *PATCH)


class Run(nn.Module):
    """Any function as a network."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *tensors):
        return self.function(*tensors)


def counted(function, *tensors: torch.Tensor) -> int:
    network = Run(function)
    tracker = Tracker(network, {})
    with tracker:
        network(*tensors)
    return tracker.macs.total()


class ByHand(TorchFunctionMode):
    """Counts the layers of a network from their definitions, when they are called."""

    def __init__(self):
        super().__init__()
        self.macs = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name = func.__name__
        if name in ("conv2d", "conv3d"):
            in_channels_of_group, *kernel = args[1].shape[1:]
            self.macs += out.numel() * in_channels_of_group * prod(kernel)
        elif name.startswith("conv_transpose"):
            out_channels_of_group, *kernel = args[1].shape[1:]
            self.macs += args[0].numel() * out_channels_of_group * prod(kernel)
        elif name == "linear":
            self.macs += out.numel() * args[1].shape[1]
        elif name == "matmul":
            self.macs += out.numel() * args[0].shape[-1]
        elif name == "scaled_dot_product_attention":
            queries, keys = args[0].shape[-2], args[1].shape[-2]
            self.macs += 2 * args[0].shape[:-2].numel() * queries * keys * args[0].shape[-1]
        return out


@pytest.mark.parametrize("spec", registry.specs(), ids=lambda s: s.name)
def test_networks_have_the_macs_of_their_layers_by_hand_and_by_torchs_counter(spec):
    patch = PATCH[-max(spec.dimensions) :]
    network = build(f"{spec.name}_{spec.sizes[0]}", patch=patch)
    image = torch.empty((1, 4, *patch), device="meta")
    with evaluated(network), ByHand() as by_hand:
        network(image)
    with evaluated(network), FlopCounterMode(display=False) as torchs:
        network(image)
    with evaluated(network):
        ours = counted(network, image)
    assert ours == by_hand.macs == torchs.get_total_flops() // 2


def test_macs_are_those_of_one_sample_and_flops_twice_as_many():
    network = build("unet3d_xs")
    with evaluated(network):
        one = counted(network, torch.empty(INPUT, device="meta"))
    cost = predict(network, (3, *INPUT[1:]))
    assert cost.macs == one
    assert cost.flops == 2 * one
    assert cost.macs_step > 3 * 2.9 * one


@pytest.mark.parametrize("groups", [1, 4, 8])
@pytest.mark.parametrize("transposed", [False, True])
def test_backward_of_a_convolution_costs_two_forwards_whatever_the_groups(groups, transposed):
    layer = (nn.ConvTranspose3d if transposed else nn.Conv3d)(8, 16, 3, padding=1, groups=groups, device="meta")
    x = torch.empty(2, 8, 4, 5, 6, device="meta", requires_grad=True)
    forward = 2 * (8 * 16 // groups) * 27 * (4 * 5 * 6)
    assert counted(layer, x) == forward
    assert counted(lambda x: layer(x).sum().backward(), x) == 3 * forward


def test_a_transposed_convolution_uses_each_weight_once_for_each_voxel_of_its_input():
    layer, x = nn.ConvTranspose3d(8, 16, 2, stride=2, device="meta"), torch.empty(1, 8, 4, 5, 6, device="meta")
    assert counted(layer, x) == 8 * 16 * 8 * (4 * 5 * 6)


def test_first_layer_needs_no_gradient_of_its_input():
    layer, x = nn.Conv3d(4, 8, 1, device="meta"), torch.empty(1, 4, 2, 2, 2, device="meta")
    assert counted(lambda x: layer(x).sum().backward(), x) == 2 * 4 * 8 * 8


def test_attention_counts_the_same_fused_and_written_out():
    q = torch.empty(2, 3, 64, 8, device="meta")
    written_out = counted(scaled_dot_product_attention, q, q, q)
    with CudaKernels():
        fused = counted(scaled_dot_product_attention, q, q, q)
    assert fused == written_out == 2 * 2 * 3 * 64 * 64 * 8


def test_fourier_transforms_count_their_butterflies():
    x = torch.empty(5, 16, 8, device="meta")
    butterflies = 5 * 128 * log2(128) / 2 * 4
    assert counted(lambda x: torch.fft.rfftn(x, dim=(1, 2)), x) == butterflies / 2
    assert counted(lambda x: torch.fft.fftn(x.to(torch.complex64), dim=(1, 2)), x) == butterflies
    spectrum = torch.empty(5, 16, 5, dtype=torch.complex64, device="meta")
    assert counted(lambda s: torch.fft.irfftn(s, s=(16, 8), dim=(1, 2)), spectrum) == butterflies / 2
    assert counted(torch.mul, spectrum, spectrum) == 4 * spectrum.numel()
    assert counted(torch.mul, x, x) == 0
