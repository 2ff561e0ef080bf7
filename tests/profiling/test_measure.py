"""How measurements are made; what they give is in test_oracle.py."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.backends import cudnn

from nnunet_ext.profiling import measure
from nnunet_ext.profiling.measure import WARM_UP, measure_inference, measure_latency, measure_training, prepare
from nnunet_ext.profiling.step import OPTIMISER


class Watched(nn.Module):
    """Keeps how cuDNN was set at each forward pass."""

    def __init__(self):
        super().__init__()
        self.layer, self.seen = nn.Conv3d(1, 1, 1), []

    def forward(self, x):
        self.seen.append((cudnn.benchmark, cudnn.deterministic))
        return self.layer(x)


@pytest.fixture
def image():
    return torch.randn(1, 1, 4, 4, 4)


@pytest.mark.parametrize("what", ["training", "inference", "latency"])
def test_cudnn_is_set_as_nnunet_sets_it_and_warm_up_is_not_counted(image, what):
    network = Watched()
    before = cudnn.benchmark, cudnn.deterministic
    if what == "training":
        measure_training(prepare(network, image), repeats=3)
    elif what == "inference":
        measure_inference(network, image, "fp32", repeats=3)
    else:
        assert measure_latency(network, image, "fp32", repeats=3).repeats == 3
    assert network.seen == [(True, False)] * (WARM_UP["cpu"] + 3)
    assert (cudnn.benchmark, cudnn.deterministic) == before
    assert WARM_UP["cuda"] >= 10, "cuDNN tries its algorithms, and the clocks rise"


class Allocator:
    """What torch.cuda tells of an allocator."""

    def __init__(self, held):
        self.held = self.peak = held

    def take(self, nbytes):
        self.held += nbytes
        self.peak = max(self.peak, self.held)

    def reset(self):
        self.peak = self.held


@pytest.fixture
def allocator(monkeypatch):
    made = Allocator(1000)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: made.held)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: made.peak)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda: made.peak + 7)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", made.reset)
    return made


def test_activations_on_cuda_are_those_of_both_passes(allocator):
    """By hand: 60 bytes in the forward pass, 40 beside 4 of a gradient in the backward pass, 500 in the optimiser's."""
    weight = nn.Parameter(torch.zeros(1))

    def step(label):
        allocator.take(60)
        allocator.take(-30)
        weight.sum().backward()
        allocator.take(4)  # the gradient
        allocator.take(10)
        with label(OPTIMISER):
            allocator.take(500)
            allocator.take(-500)

    training = SimpleNamespace(network=nn.ParameterList([weight]), step=step, reset=lambda: None)
    peaks = measure._training_on_cuda(training, resident=1)
    assert (peaks.activations, peaks.total, peaks.reserved) == (60, 545, 1000 + 544 + 7)


def test_gradients_are_no_activations_on_cuda(allocator):
    """By hand: 8 bytes of activations and a gradient of 4, then 20 beside it."""
    weight = nn.Parameter(torch.zeros(1))

    def step(label):
        allocator.take(8)
        allocator.take(4)
        weight.sum().backward()
        allocator.take(12)
        with label(OPTIMISER):
            pass

    training = SimpleNamespace(network=nn.ParameterList([weight]), step=step, reset=lambda: None)
    assert measure._training_on_cuda(training, resident=0).activations == 20
