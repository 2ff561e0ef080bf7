import numpy as np
import pytest
import torch
from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from torch import nn

from nnunet_ext.profiling.advice import remedies
from nnunet_ext.profiling.predict import follow_training, memory, predict
from nnunet_ext.profiling.step import region_loss, supervised_loss
from nnunet_ext.profiling.timeline import find_peak
from nnunet_ext.profiling.tracker import Tracker
from tests.profiling.small import PATCH, build

INPUT = (2, 4, *PATCH)


@pytest.fixture
def nnunets():
    return DC_and_BCE_loss(
        {}, {"batch_dice": False, "do_bg": True, "smooth": 1e-5, "ddp": False}, dice_class=MemoryEfficientSoftDiceLoss
    )


def pairs(device: str, scales: int = 1):
    logits = [torch.randn(2, 3, *[16 >> i] * 3, device=device, requires_grad=True) for i in range(scales)]
    return logits, [torch.randn_like(x) > 0 for x in logits]


def test_loss_is_nnunets(nnunets):
    (logits,), (target,) = pairs("cpu")
    ours, theirs = region_loss(logits, target), nnunets(logits, target)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs)))


def test_loss_of_several_outputs_is_nnunets(nnunets):
    logits, targets = pairs("cpu", scales=4)
    weights = np.array([1 / 2**i for i in range(4)])
    weights[-1] = 0
    wrapped = DeepSupervisionWrapper(nnunets, weights / weights.sum())
    torch.testing.assert_close(supervised_loss(logits, targets), wrapped(logits, targets))


def test_loss_needs_the_memory_of_nnunets(nnunets):
    class Loss(nn.Module):
        def __init__(self, function):
            super().__init__()
            self.function = function

        def forward(self, logits, target):
            self.function(logits, target).backward()

    peaks = []
    for function in (region_loss, nnunets):
        (logits,), (target,) = pairs("meta")
        network = Loss(function)
        tracker = Tracker(network, {})
        tracker.declare([logits, target], "input")
        with tracker:
            network(logits, target)
        peaks.append(find_peak(tracker.blocks).by_kind["activation"])
    assert peaks[0] == pytest.approx(peaks[1], rel=0.02)


def total(name: str = "dualbranch_14_ghostnet_xs", shape=INPUT, **options) -> int:
    return memory(follow_training(build(name), shape, **options)[0]).total


def test_optimiser_state_and_accumulation_cost_memory():
    plain = memory(follow_training(build("unet3d_xs"), INPUT)[0])
    adam = memory(follow_training(build("unet3d_xs"), INPUT, optimiser="AdamW")[0])
    twice = memory(follow_training(build("unet3d_xs"), INPUT, accumulation=2)[0])
    assert plain.optimiser == plain.parameters
    assert adam.optimiser == pytest.approx(2 * plain.parameters, rel=1e-3)
    # with accumulation the gradients of the first pass live through the second one
    assert twice.gradients > 0.9 * plain.parameters > plain.gradients


def test_optimiser_temporaries_are_no_activations():
    """Both copy all gradients, whatever the batch; the activations of both passes know nothing of it."""
    small, large = (memory(follow_training(build("unetr_xs"), (batch, *INPUT[1:]))[0]) for batch in (1, 2))
    adam = memory(follow_training(build("unetr_xs"), INPUT, optimiser="AdamW")[0])
    assert small.most_temporaries == large.most_temporaries == small.gradients
    assert adam.most_temporaries >= small.gradients
    assert small.pam < large.pam == adam.pam
    assert small.pam < small.most_temporaries, "the larger part, which hid the activations"


def test_inference_is_of_one_sample():
    costs = [predict(build("unet3d_xs"), (batch, *INPUT[1:])) for batch in (1, 3)]
    assert costs[0].inference == costs[1].inference
    assert 2 * costs[0].training.pam < costs[1].training.pam


def test_deep_supervision_costs_memory():
    network = build("unet3d_xs")
    network.decoder.deep_supervision = False
    without = memory(follow_training(network, INPUT)[0])
    assert total("unet3d_xs") > without.total


def test_remedies_lower_the_peak_to_what_is_then_predicted():
    def fresh():
        return build("dualbranch_14_ghostnet_xs")

    cost = predict(fresh(), INPUT)
    found = remedies(fresh, cost)
    assert found["batch 1"] == total(shape=(1, *INPUT[1:]))
    assert found["recompute every stage"] < cost.training.total
    assert all(lower < cost.training.total for lower in found.values())
