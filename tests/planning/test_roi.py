"""The cascade's configurations, by hand, through nnU-Net's managers, and by the command."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_ext.cli import main
from nnunet_ext.commands import plan_roi
from nnunet_ext.planning.roi import roi_spacing, times_planned, with_cascade
from tests.planning import dataset
from tests.trainers import workspace


def planned(shapes, spacings=None, size=(64, 64, 64), crop=(96, 96, 96), **changes):
    fingerprint = {"shapes_after_crop": shapes, "spacings": spacings or [[1.0] * 3] * len(shapes)}
    return PlansManager(with_cascade({**workspace.plans(4), **changes}, fingerprint, size, crop))


def test_the_largest_brain_fits_at_the_finest_spacing():
    roi = planned([[100, 128, 90], [80, 160, 100]]).get_configuration("3d_roi")
    assert roi.spacing == [2.5] * 3
    assert roi.patch_size == [64, 64, 64]
    assert roi.median_image_size_in_voxels == [36.0, 57.6, 38.0]
    assert roi.data_identifier == "nnUNetPlans_3d_roi"


def test_spacings_count_and_axes_are_transposed():
    transposed = {"transpose_forward": [2, 0, 1], "transpose_backward": [1, 2, 0]}
    roi = planned([[10, 100, 100]], [[12.0, 1.0, 1.0]], size=(64, 48, 64), **transposed).get_configuration("3d_roi")
    assert roi.spacing == [120 / 48] * 3  # the image's z is the second axis of the preprocessed volume


def test_small_images_are_not_magnified():
    assert planned([[40, 36, 44]]).get_configuration("3d_roi").spacing == [1.0] * 3


@given(st.lists(st.tuples(*[st.integers(1, 300)] * 3), min_size=1, max_size=4), st.floats(0.3, 6))
def test_every_brain_fits_and_a_finer_spacing_would_not_do(shapes, spacing):
    size = (64, 64, 64)
    found = roi_spacing(shapes, [[spacing] * 3] * len(shapes), size, 0)
    resampled = [compute_new_shape(shape, [spacing] * 3, [found] * 3) for shape in shapes]
    assert np.max(resampled) <= 64
    finer = [compute_new_shape(shape, [spacing] * 3, [found * 0.97] * 3) for shape in shapes]
    assert np.max(finer) > 64


@pytest.mark.parametrize("configuration", ["3d_roi", "3d_crop"])
def test_stock_networks_can_be_built(configuration):
    found = planned([[137, 170, 140]], size=(64, 48, 64)).get_configuration(configuration)
    network = nnUNetTrainer.build_network_architecture(None, found, 4, 3, True)
    assert sum(p.numel() for p in network.parameters()) > 0


def test_crops_have_the_data_and_the_strides_of_full_resolution():
    manager = planned([[137, 170, 140]])
    full, crop = (manager.get_configuration(name) for name in ("3d_fullres", "3d_crop"))
    assert crop.patch_size == [96, 96, 96]
    for name in ("data_identifier", "spacing", "pool_op_kernel_sizes", "batch_size"):
        assert getattr(crop, name) == getattr(full, name)


@pytest.mark.parametrize(
    ("patch", "batch", "expected", "times"),
    [
        (128, 2, 2, 0.421875),  # 96^3 / 128^3: a smaller crop makes the batch no larger
        (64, 12, 3, 0.84375),  # 12 * 64^3 voxels hold three crops of 96^3
        (64, 2, 2, 3.375),  # a batch of one crop is too small for nnU-Net
        (64, 1, 1, 3.375),
    ],
)
def test_a_batch_of_crops_has_no_more_voxels_than_was_planned(patch, batch, expected, times):
    plans = workspace.plans(4)
    plans["configurations"]["3d_fullres"] |= {"patch_size": [patch] * 3, "batch_size": batch}
    found = with_cascade(plans, {"shapes_after_crop": [[137, 170, 140]], "spacings": [[1.0] * 3]}, [64] * 3, [96] * 3)
    assert found["configurations"]["3d_crop"]["batch_size"] == expected
    assert times_planned(found) == times


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"size": (64, 60, 64)}, "--size 64 60 64 does not divide .* 64 64 64"),
        ({"crop": (96, 97, 96)}, "--crop 96 97 96 does not divide .* 96 100 96"),
        ({"size": (64, 64)}, "three numbers"),
        ({"configurations": {}}, "no configuration 3d_fullres"),
    ],
)
def test_what_cannot_be_planned(changes, said):
    with pytest.raises(ValueError, match=said):
        planned([[137, 170, 140]], **changes)


@pytest.fixture
def folder(tmp_path, monkeypatch, capsys):
    made = dataset.write(tmp_path, monkeypatch)
    capsys.readouterr()
    return made


def call(*options):
    return main(["plan-roi", "-d", "501", *options])


def test_the_command_adds_both_and_keeps_the_rest(folder, capsys):
    before = dataset.plans(folder)
    assert call("--no_pp", "--size", "32", "32", "32", "--crop", "16", "16", "16") == 0
    after = dataset.plans(folder)
    for name, configuration in before["configurations"].items():
        assert after["configurations"][name] == configuration
    assert {"3d_roi", "3d_crop"} <= set(after["configurations"])
    assert "3d_roi: patch 32x32x32 at 1.000 mm" in capsys.readouterr().out
    assert not list(folder.glob("*.partial"))
    assert call("--no_pp", "--size", "16", "16", "16", "--crop", "16", "16", "16") == 0
    assert "at 2.000 mm (replaces an earlier one" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-p", "others"], "There are no plans"),
        (["--size", "0", "64", "64"], "positive numbers"),
        (["--no_pp", "--size", "62", "64", "64"], "the next legal size is 64 64 64"),
        (["-np", "0"], "positive numbers"),
    ],
)
def test_bad_input(folder, capsys, options, said):
    before = (folder / "nnUNetPlans.json").read_text()
    assert call(*options) == 2
    assert said in capsys.readouterr().err
    assert (folder / "nnUNetPlans.json").read_text() == before


def test_without_images_nothing_is_planned(folder, capsys, monkeypatch):
    monkeypatch.setenv("nnUNet_raw", str(folder / "elsewhere"))
    assert call() == 2
    assert "or only plan with --no_pp" in capsys.readouterr().err
    assert "3d_roi" not in dataset.plans(folder)["configurations"]


def test_a_crop_that_needs_more_memory_than_was_planned_is_told(folder, capsys):
    assert call("--no_pp", "--size", "32", "32", "32", "--crop", "32", "32", "32") == 0
    assert "so training needs about as many times the memory" in capsys.readouterr().out
    assert call("--no_pp", "--size", "32", "32", "32", "--crop", "16", "16", "16") == 0
    assert "memory" not in capsys.readouterr().out


def test_a_file_that_is_not_whole_is_not_preprocessed(folder, capsys):
    before = dataset.plans(folder)
    assert call("--size", "32", "32", "32", "--crop", "16", "16", "16") == 2  # its images are empty files
    error = capsys.readouterr().err
    assert "Nothing is preprocessed: 5 of 5 files are not whole" in error
    assert "case_0000.nii.gz is damaged" in error
    assert dataset.plans(folder) == before


def test_a_dataset_of_four_digits_is_preprocessed_by_its_number(folder, monkeypatch):
    from nnunetv2.experiment_planning import plan_and_preprocess_api

    asked = []
    monkeypatch.setattr(plan_and_preprocess_api, "preprocess_dataset", lambda number, *_: asked.append(number))
    for root in (folder.parent, folder.parents[1] / "raw"):
        (root / folder.name).rename(root / "Dataset1000_Tiny")
    monkeypatch.setattr(plan_roi, "_check_images", lambda *_: None)
    assert main(["plan-roi", "-d", "1000", "--size", "32", "32", "32", "--crop", "16", "16", "16"]) == 0
    assert asked == [1000]


def test_without_a_fingerprint(folder, capsys):
    (folder / "dataset_fingerprint.json").unlink()
    assert call("--no_pp") == 2
    assert "plan the dataset first" in capsys.readouterr().err


def test_plans_are_plain_json(folder):
    assert call("--no_pp", "--size", "32", "32", "32", "--crop", "16", "16", "16") == 0
    json.loads((folder / "nnUNetPlans.json").read_text())
