"""The prediction against torch's own memory tracker and against what a CPU really allocates."""

import pytest
import torch
from torch.distributed._tools.mem_tracker import MemTracker

from nnunet_ext.profiling.devices import place, stand_in
from nnunet_ext.profiling.measure import measure_inference, measure_latency, measure_training, prepare
from nnunet_ext.profiling.predict import evaluated, follow_training, memory, predict
from nnunet_ext.profiling.step import Training, make_optimiser
from tests.profiling.small import FAMILIES, PATCH, build

INPUT = (2, 4, *PATCH)
MEASURED = ("unet3d_xs", "dualbranch_14_ghostnet_xs", "unetr_xs")


@pytest.mark.parametrize("name", FAMILIES)
def test_training_total_is_that_of_torchs_tracker(name):
    predicted = memory(follow_training(build(name), INPUT, precision="fp32", device="cpu")[0])
    network = build(name)
    with stand_in("cpu") as device:
        place(network, device)
        image = torch.empty(INPUT)
        training = Training(network, image, make_optimiser("SGD", network.parameters(), foreach=False))
        tracker = MemTracker()
        tracker.track_external(network, training.optimiser, image)
        with tracker:
            training.step()
        snapshot = tracker.get_tracker_snapshot("peak")[torch.device("cpu")]
    total = next(nbytes for kind, nbytes in snapshot.items() if kind == "Total")
    assert predicted.total == pytest.approx(total, rel=0.02)


@pytest.mark.parametrize("name", MEASURED)
def test_prediction_for_a_cpu_is_what_a_cpu_allocates(name):
    predicted = predict(build(name), INPUT, precision="fp32", device="cpu")
    network, image = build(name, "cpu"), torch.randn(INPUT)
    training = measure_training(prepare(network, image), repeats=2)
    assert predicted.training.pam == pytest.approx(training.activations[0], rel=0.01)
    assert predicted.training.total == pytest.approx(training.total[0], rel=0.01)
    assert training.activations[1] == pytest.approx(0, abs=0.01 * training.activations[0])
    with evaluated(network):
        inference = measure_inference(network, image[:1], "fp32", repeats=1)
    assert predicted.inference.pam == pytest.approx(inference.activations[0], rel=0.01)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["amp", "fp32"])
@pytest.mark.parametrize("name", MEASURED)
def test_prediction_for_cuda_is_what_its_allocator_reports(name, precision):
    shape = (2, 4, 96, 96, 96)  # large enough for workspaces to be a small part
    predicted = predict(build(name, patch=shape[2:]), shape, precision=precision)
    network, image = build(name, "cuda", patch=shape[2:]), torch.randn(shape, device="cuda")
    training = measure_training(prepare(network, image, precision=precision), repeats=2)
    assert predicted.training.total == pytest.approx(training.total[0], rel=0.1)
    assert training.reserved[0] >= training.total[0]


def test_latency_is_ordered():
    network = build("dualbranch_14_ghostnet_xs", "cpu")
    with evaluated(network):
        latency = measure_latency(network, torch.randn(1, 4, *PATCH), "fp32", repeats=3)
    assert 0 < latency.minimum <= latency.median <= latency.p90
    assert latency.repeats == 3


def test_amp_cannot_be_measured_on_a_cpu():
    with pytest.raises(ValueError, match="CUDA's autocast"):
        prepare(build("unet3d_xs", "cpu"), torch.randn(INPUT), precision="amp")
