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
from nnunet_ext.planning.roi import roi_spacing, with_cascade
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


def test_without_a_fingerprint(folder, capsys):
    (folder / "dataset_fingerprint.json").unlink()
    assert call("--no_pp") == 2
    assert "plan the dataset first" in capsys.readouterr().err


def test_plans_are_plain_json(folder):
    assert call("--no_pp", "--size", "32", "32", "32", "--crop", "16", "16", "16") == 0
    json.loads((folder / "nnUNetPlans.json").read_text())
