"""A whole case: its patches, its mirrored forms, its interval."""

import math

import numpy as np
import pytest
import torch

from nnunet_ext.outcomes import validation
from nnunet_ext.outcomes.conformal import half_width
from nnunet_ext.outcomes.prediction import case_outputs, patches
from nnunet_ext.outcomes.validation import left_out_intervals
from tests.outcomes.conftest import CPU
from tests.outcomes.test_training import trainer_for


def test_patches_cover_the_image_and_small_images_are_padded():
    image = torch.arange(2 * 5 * 4 * 3.0).reshape(2, 5, 4, 3)
    found = list(patches(image, (4, 4, 4)))
    assert [p.shape for p in found] == [(2, 4, 4, 4)] * 2
    assert torch.equal(found[1][:, :, :, 0:3], image[:, 1:5])
    slices = list(patches(image, (4, 4)))
    assert len(slices) == 5
    assert torch.equal(slices[2][:, :, 0:3], image[:, 2])


def test_a_cases_outputs_are_the_mean_over_its_patches():
    class Means(torch.nn.Module):
        def forward(self, x):
            return x.flatten(2).mean(2)

    image = torch.randn(3, 21, 4, 4)
    size = (4, 4, 4)
    taken = [p.flatten(1).mean(1) for p in patches(image, size)]
    assert len(taken) > 8, "more than one forward pass"
    torch.testing.assert_close(case_outputs(Means(), image, size, CPU, "device"), torch.stack(taken).mean(0))


class Corner(torch.nn.Module):
    """Gives a corner voxel of each channel: it knows left from right."""

    def forward(self, x):
        return x.flatten(2)[..., 0] ** 2


def mirrored_by_hand(image, axes):
    """All sets of axes (of the image without its channels), each mirrored for itself."""
    forms = [image]
    for axis in axes:
        forms += [np.flip(form, axis + 1) for form in forms]
    return forms


@pytest.mark.parametrize("axes", [(0, 1, 2), (1,), (0, 2), None])
def test_mirrored_forms_are_averaged_by_their_outputs(axes):
    image = torch.randn(2, 6, 4, 5)
    forms = mirrored_by_hand(image.numpy(), axes or ())
    expected = np.mean([form[:, 0, 0, 0] ** 2 for form in forms], 0)
    assert len({tuple(form[:, 0, 0, 0]) for form in forms}) == 2 ** len(axes or ())
    found = case_outputs(Corner(), image, (6, 4, 5), CPU, "device", None, axes)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_mirroring_and_a_window_are_averaged_together():
    image = torch.randn(3, 9, 4, 4)
    found = case_outputs(Corner(), image, (4, 4, 4), CPU, "device", None, (0,))
    each = [(patch[:, z, 0, 0] ** 2) for patch in patches(image, (4, 4, 4)) for z in (0, 3)]
    torch.testing.assert_close(found, torch.stack(each).mean(0))


def test_the_validation_mirrors_as_the_training_did_and_an_early_stop_does_not(nnunet, case_dataset, monkeypatch):
    trainer = trainer_for(case_dataset)
    trainer.initialize()
    seen = []
    monkeypatch.setattr(validation, "outputs_of", lambda _, cases, axes=None: seen.append(axes) or torch.zeros(2, 8))
    monkeypatch.setattr(validation, "write", lambda *_: {})
    for axes in ((0, 1), None):
        trainer.inference_allowed_mirroring_axes = axes
        trainer.perform_actual_validation()
    trainer.full_volume_score()
    assert seen == [(0, 1), None, None]


def test_left_out_intervals_are_conformal_by_the_other_cases_and_cover():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=400)
    predictions = truth + rng.standard_t(3, size=400)
    patients = [str(i) for i in range(400)]
    lower, upper = left_out_intervals(predictions, truth, patients)
    others = np.delete(truth - predictions, 7)
    assert upper[7] - predictions[7] == half_width(others, 0.9) == predictions[7] - lower[7]
    assert 0.88 < ((lower <= truth) & (truth <= upper)).mean() < 0.93
    few = left_out_intervals(predictions[:9], truth[:9], patients[:9])
    assert np.isnan(few[0]).all()


def test_a_patients_further_cases_are_not_among_the_others():
    """Of nine cases of others the interval is by the largest error; the patient's own are larger."""
    truth = np.arange(11.0)
    predictions = truth + np.array([50.0, 60.0, *range(9)])
    lower, upper = left_out_intervals(predictions, truth, ["P0", "P0", *(f"P{i}" for i in range(1, 10))])
    assert (upper - predictions)[:2].tolist() == (predictions - lower)[:2].tolist() == [8, 8]
    assert (upper - predictions)[2] == 60


def test_survival_intervals_cover_what_the_model_says():
    from nnunet_ext.outcomes.columns import Column
    from nnunet_ext.outcomes.heads import SurvivalHead

    rng = np.random.default_rng(1)
    head = SurvivalHead(1, Column("days", "survival", censoring="c"))
    read = head.read(torch.tensor([[5.0, math.log(0.4)]]))
    times = np.exp(5 + 0.4 * rng.logistic(size=20000))
    inside = (read["lower"].item() <= times) & (times <= read["upper"].item())
    assert inside.mean() == pytest.approx(0.9, abs=0.01)
    assert read["value"].item() == pytest.approx(np.median(times), rel=0.03)
