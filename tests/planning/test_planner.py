"""The planner against nnU-Net's rules, walked through one by one, and against the predictor on the plans it writes."""

import dataclasses
import json
from math import prod

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from nnunetv2.experiment_planning.experiment_planners.network_topology import get_pool_and_conv_props
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_ext.commands.plan import cells
from nnunet_ext.networks import registry
from nnunet_ext.planning.memory import COORDINATES, TrainingMemory
from nnunet_ext.planning.planner import FittingPlanner
from nnunet_ext.planning.search import GB
from nnunet_ext.profiling.predict import predict
from nnunet_ext.trainers import trainer_class
from nnunet_ext.trainers.recipe import Recipe
from nnunet_ext.trainers.words import changes_of_memory
from tests.planning import dataset

CLASSES = 3
FIXED, PER_VOXEL = 20_000, 16
SMALLEST_EDGE, MOST_POOLING = 4, 999999  # nnU-Net's own arguments
LARGE = (300, 320, 280)


@dataclasses.dataclass
class Simple:
    """Stands in for the prediction: bytes in proportion to the voxels of the input."""

    spec: object = registry.find("unet3d")[0]
    size: str = "XS"

    def __call__(self, architecture, input_shape, *, classes, image_channels):
        return FIXED + PER_VOXEL * prod(input_shape)


@pytest.fixture(scope="module")
def small():
    """The smallest U-Net; remembers its predictions for all tests."""
    return TrainingMemory(*registry.find("unet3d_XS"))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    return dataset.write(tmp_path, monkeypatch)


def planner_of(folder, memory, gb, name="ours"):
    return FittingPlanner(folder, dataset.plans(folder), memory, gb, name, reserve=0)


def planned(folder, memory, gb):
    made = planner_of(folder, memory, gb)
    made.plan_experiment()
    return made, dataset.plans(folder, "ours")


# --- the rules, with a memory that is easy to compute


def legal(spacing, patch):
    return tuple(get_pool_and_conv_props(spacing, patch, SMALLEST_EDGE, MOST_POOLING)[3]) == tuple(patch)


def next_steps(spacing, patch, largest):
    """Every patch with the next legal size of one axis, found by trying all sizes."""
    for axis in range(len(patch)):
        wider = [(*patch[:axis], size, *patch[axis + 1 :]) for size in range(patch[axis] + 1, largest[axis] + 1)]
        yield from [w for w in wider if legal(spacing, w)][:1]


@pytest.fixture(scope="module")
def reusable(tmp_path_factory):
    with pytest.MonkeyPatch.context() as monkeypatch:
        folder = dataset.write(tmp_path_factory.mktemp("rules"), monkeypatch)
        yield planner_of(folder, Simple(), 1)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    spacing=st.lists(st.sampled_from([0.5, 0.9, 1.0, 1.2, 3.0, 6.0]), min_size=2, max_size=3),
    image=st.lists(st.integers(8, 260), min_size=3, max_size=3),
    room=st.floats(5, 25),
    cases=st.integers(1, 400),
)
def test_no_larger_patch_and_no_larger_batch_fits(reusable, spacing, image, room, cases):
    image, limit = image[: len(spacing)], int(FIXED + 2**room * 2 * 4 * PER_VOXEL)
    reusable.UNet_vram_target_GB = limit / GB
    voxels = float(prod(image) * cases)
    plan = reusable.get_plans_for_configuration(np.array(spacing), np.array(image, float), "any", voxels, {})
    if reusable._refusals:
        reject()  # what does not fit at all has tests of its own
    patch, batch = tuple(int(p) for p in plan["patch_size"]), plan["batch_size"]

    def needed(shape, samples):
        return FIXED + PER_VOXEL * 4 * prod(shape) * samples

    start = 1 / np.array(spacing)
    start = start * ((256**3 if len(spacing) == 3 else 2048**2) / prod(start)) ** (1 / len(spacing))
    clipped = [min(round(s), i) for s, i in zip(start, image, strict=True)]
    largest = get_pool_and_conv_props(spacing, clipped, SMALLEST_EDGE, MOST_POOLING)[3]
    cap = max(2, round(voxels * 0.05 / prod(patch)))
    assert legal(spacing, patch)
    assert all(p <= most for p, most in zip(patch, largest, strict=True))
    assert needed(patch, batch) <= limit
    assert all(needed(step, 2) > limit for step in next_steps(spacing, patch, largest))
    assert 2 <= batch <= cap
    assert batch == cap or needed(patch, batch + 1) > limit
    assert plan["median_image_size_in_voxels"].tolist() == image
    assert [list(s) for s in plan["architecture"]["arch_kwargs"]["strides"]] == [
        list(s) for s in get_pool_and_conv_props(spacing, patch, SMALLEST_EDGE, MOST_POOLING)[1]
    ]


# --- with predictions


def total(trainer, plan, patch, batch):
    """The predictor's answer for what nnU-Net would build: bytes of a training step."""
    manager = PlansManager(plan)
    configuration = manager.get_configuration("3d_fullres")
    with torch.device("meta"):
        network = trainer.build_network_architecture(manager, configuration, 4, CLASSES, True)
    return predict(network, (batch, 4, *patch), precision="amp").training.total


def with_patch(plan, patch):
    """The plan with another patch and its topology."""
    changed = json.loads(json.dumps(plan))
    configuration = changed["configurations"]["3d_fullres"]
    _, strides, kernels, padded, _ = get_pool_and_conv_props(
        configuration["spacing"], patch, SMALLEST_EDGE, MOST_POOLING
    )
    assert tuple(padded) == tuple(patch)
    further = {"n_stages": len(strides), "strides": strides, "kernel_sizes": kernels}
    configuration["patch_size"] = list(patch)
    configuration["architecture"]["arch_kwargs"] |= further
    return changed


def test_written_plans_are_maximal_by_the_predictor(folder, small):
    limit = 0.015
    made, plans = planned(folder, small, limit)
    trainer, plan = trainer_class("nnUNetTrainer_UNet3D_XS"), plans["configurations"]["3d_fullres"]
    patch, batch = tuple(plan["patch_size"]), plan["batch_size"]
    stock_patch = dataset.plans(folder)["configurations"]["3d_fullres"]["patch_size"]
    fit = made.fits["3d_fullres"]
    assert total(trainer, plans, patch, batch) == fit.needed <= limit * GB
    assert total(trainer, plans, patch, batch + 1) > limit * GB
    steps = list(next_steps(plan["spacing"], patch, stock_patch))
    needed = {step: total(trainer, with_patch(plans, step), step, 2) for step in steps}
    assert needed
    assert min(needed.values()) > limit * GB
    assert fit.next_patch == min(needed.items(), key=lambda item: item[1])
    assert fit.next_batch == (batch + 1, total(trainer, plans, patch, batch + 1))


def test_with_enough_memory_patch_and_batch_end_at_nnunets_own_rules(folder):
    made, _ = planned(folder, Simple(), 1000)
    stock = dataset.plans(folder)["configurations"]
    for name, fit in made.fits.items():
        assert list(fit.patch) == stock[name]["patch_size"]
        assert fit.batch == round(prod(dataset.SHAPE) * dataset.CASES * 0.05 / prod(fit.patch))
        assert (fit.next_patch, fit.next_batch) == (None, None)


def test_a_larger_part_of_the_dataset_allows_a_larger_batch(folder):
    made = planner_of(folder, Simple(), 1000)
    made.max_dataset_covered = 0.1
    made.plan_experiment()
    fit = made.fits["3d_fullres"]
    assert fit.batch == round(prod(dataset.SHAPE) * dataset.CASES * 0.1 / prod(fit.patch))


def test_adam_needs_more_than_sgd(folder, small):
    shape = (2, 4, 16, 16, 16)
    architecture = planner_of(folder, Simple(), 1).get_plans_for_configuration((1, 1, 1), (16, 16, 16), "any", 1e6, {})
    arguments = (architecture["architecture"]["arch_kwargs"], shape)
    adam = TrainingMemory(small.spec, small.size, "Adam")
    assert adam(*arguments, classes=3, image_channels=4) > small(*arguments, classes=3, image_channels=4)


# --- the file


def test_data_of_the_stock_plans_are_used(folder):
    _, plans = planned(folder, Simple(), 1000)
    assert {name: c["data_identifier"] for name, c in plans["configurations"].items()} == {
        "2d": "nnUNetPlans_2d",
        "3d_fullres": "nnUNetPlans_3d_fullres",
    }
    assert plans["plans_name"] == "ours"


@pytest.mark.parametrize(
    "changed",
    [
        {"spacing": [1.0, 1.0, 1.1]},
        {"normalization_schemes": ["CTNormalization"] * 4},
        {"use_mask_for_norm": [False] * 4},
        {"preprocessor_name": "Another"},
    ],
    ids=str,
)
def test_other_data_are_not_used(folder, changed):
    base = dataset.plans(folder)
    base["configurations"]["3d_fullres"] |= changed
    made = FittingPlanner(folder, base, Simple(), 1000, "ours", reserve=0)
    made.plan_experiment()
    used = {name: c["data_identifier"] for name, c in dataset.plans(folder, "ours")["configurations"].items()}
    assert used == {"2d": "nnUNetPlans_2d", "3d_fullres": "ours_3d_fullres"}


def test_nothing_is_shared_where_the_axes_are_in_another_order(folder):
    base = dataset.plans(folder) | {"transpose_forward": [2, 1, 0]}
    made = FittingPlanner(folder, base, Simple(), 1000, "ours", reserve=0)
    made.plan_experiment()
    assert {c["data_identifier"] for c in made.plans["configurations"].values()} == {"ours_2d", "ours_3d_fullres"}


def test_an_earlier_file_leaves_no_configuration_of_its_own_target(folder):
    _, plans = planned(folder, Simple(), 1000)
    plans["configurations"] |= {"3d_lowres": {"batch_size": 99}, "3d_roi": {"inherits_from": "3d_fullres"}}
    (folder / "ours.json").write_text(json.dumps(plans))
    _, plans = planned(folder, Simple(), 500)
    assert set(plans["configurations"]) == {"2d", "3d_fullres", "3d_roi"}


@pytest.mark.parametrize(("network", "kept"), [("mobile_unetr", {"2d"}), ("mobile_unetr_3d", {"3d_fullres"})])
def test_only_what_the_network_can_be_trained_in_is_written(folder, network, kept):
    made, plans = planned(folder, Simple(registry.find(network)[0]), 1000)
    assert set(plans["configurations"]) == set(made.fits) == kept


def test_large_images_get_a_cascade_with_room_for_the_labels(tmp_path, monkeypatch):
    folder = dataset.write(tmp_path, monkeypatch, shape=LARGE)
    target = (FIXED + PER_VOXEL * 4 * 2 * 128**3) / GB
    made, plans = planned(folder, Simple(), target)
    assert set(made.fits) == {"2d", "3d_fullres", "3d_lowres", "3d_cascade_fullres"}
    cascade = PlansManager(plans).get_configuration("3d_cascade_fullres")
    assert FIXED + PER_VOXEL * (4 + CLASSES) * prod([cascade.batch_size, *cascade.patch_size]) <= target * GB
    assert prod(cascade.patch_size) < prod(plans["configurations"]["3d_fullres"]["patch_size"])
    assert cascade.data_identifier == "nnUNetPlans_3d_fullres"
    assert len(cascade.network_arch_init_kwargs["strides"]) == cascade.network_arch_init_kwargs["n_stages"]


def test_a_patch_that_ends_before_the_image_names_nnunets_rule(tmp_path, monkeypatch):
    folder = dataset.write(tmp_path, monkeypatch, shape=LARGE)
    made, _ = planned(folder, Simple(), 1000)
    full = made.fits["3d_fullres"]
    assert full.next_patch is None
    assert prod(full.patch) < prod(LARGE)
    assert not full.covers_image
    assert cells(full, 0.05)[4] == "nnU-Net's largest patch"
    assert cells(made.fits["2d"], 0.05)[4] == "image size"


@dataclasses.dataclass
class Flat(Simple):
    """A network whose slices need more than fits, unlike its volumes; and volumes with labels of a cascade."""

    refused: str = "2d"

    def __call__(self, architecture, input_shape, *, classes, image_channels):
        kind = "2d" if len(input_shape) == 4 else "cascade" if input_shape[1] > image_channels else "3d"
        return (
            10**15
            if kind == self.refused
            else super().__call__(architecture, input_shape, classes=classes, image_channels=image_channels)
        )


def test_a_configuration_that_does_not_fit_is_left_out_and_told(folder):
    made, plans = planned(folder, Flat(), 1)
    assert set(plans["configurations"]) == set(made.fits) == {"3d_fullres"}
    assert set(made.refused) == {"2d"}
    assert "it needs 9" in made.refused["2d"]


def test_slices_remain_where_volumes_do_not_fit(tmp_path, monkeypatch):
    folder = dataset.write(tmp_path, monkeypatch, shape=LARGE)
    made, plans = planned(folder, Flat(refused="3d"), 1)
    assert set(plans["configurations"]) == set(made.fits) == {"2d"}
    assert "does not fit" in made.refused["3d_fullres"]


def test_low_resolution_without_its_cascade_has_no_next_stage(tmp_path, monkeypatch):
    folder = dataset.write(tmp_path, monkeypatch, shape=LARGE)
    target = (FIXED + PER_VOXEL * 4 * 2 * 128**3) / GB
    made, plans = planned(folder, Flat(refused="cascade"), target)
    assert set(plans["configurations"]) == {"2d", "3d_fullres", "3d_lowres"}
    assert set(made.refused) == {"3d_cascade_fullres"}
    assert "next_stage" not in plans["configurations"]["3d_lowres"]


# --- the recipe


def test_words_that_change_memory_are_seen_in_the_prediction(folder, small):
    plan = planner_of(folder, Simple(), 1).get_plans_for_configuration((1, 1, 1), (32, 32, 32), "any", 1e6, {})
    architecture = plan["architecture"]["arch_kwargs"]

    def needed(**changes):
        memory = TrainingMemory.of(small.spec, small.size, changes_of_memory(Recipe(**changes)))
        return memory(architecture, (2, 4, 32, 32, 32), classes=3, image_channels=4)

    usual = needed()
    assert needed(precision="FP32") > usual
    assert needed(precision="BF16") <= usual
    assert needed(deep_supervision=False) < usual
    assert needed(accumulation=4) > usual, "gradients stay while the next batch is computed"
    assert needed(optimiser="AdamW") > usual
    assert needed(loss="Dice50CE50") == usual


def test_coordinates_are_further_channels(folder, small):
    assert pytest.importorskip("nnunet_ext.coordinates.field").AXES == COORDINATES
    plan = planner_of(folder, Simple(), 1).get_plans_for_configuration((1, 1, 1), (16, 16, 16), "any", 1e6, {})
    architecture = plan["architecture"]["arch_kwargs"]
    memory = TrainingMemory.of(small.spec, small.size, {"coordinates": True})
    seven = small(architecture, (2, 7, 16, 16, 16), classes=3, image_channels=4)
    assert memory(architecture, (2, 4, 16, 16, 16), classes=3, image_channels=4) == seven


# --- what cannot be planned


@pytest.mark.parametrize("network", ["unet3d_XS", "swin_unetr_XS"])  # the latter needs three stages
def test_the_refusal_names_the_smallest_memory_that_would_do(tmp_path, monkeypatch, network):
    folder = dataset.write(tmp_path, monkeypatch, shape=(16, 16, 16))
    spec, size = registry.find(network)
    memory = TrainingMemory(dataclasses.replace(spec, dimensions=(3,)), size)
    with pytest.raises(ValueError, match=r"it needs (0\.\d+) GB") as refused:
        planner_of(folder, memory, 1e-6).plan_experiment()
    least = float(str(refused.value).split(" needs ")[1].split()[0])
    planner_of(folder, memory, least).plan_experiment()
    with pytest.raises(ValueError, match="does not fit"):
        planner_of(folder, memory, least - 0.001).plan_experiment()


def test_a_network_that_cannot_be_built_at_all_says_so_itself(tmp_path, monkeypatch):
    folder = dataset.write(tmp_path, monkeypatch, shape=(12, 12, 12))
    with pytest.raises(ValueError, match="at least 3 stages"):
        planner_of(folder, TrainingMemory(*registry.find("swin_unetr_XS")), 1).plan_experiment()


def test_images_that_cannot_be_halved(tmp_path, monkeypatch):
    folder = dataset.write(tmp_path, monkeypatch, shape=(6, 7, 5))
    with pytest.raises(ValueError, match="so small"):
        planner_of(folder, Simple(), 1).plan_experiment()


def test_slices_are_no_data_for_a_3d_network(tmp_path, monkeypatch):
    folder = dataset.write(tmp_path, monkeypatch, shape=(1, 64, 64), spacing=(999.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="is a 3D network"):
        planner_of(folder, Simple(registry.find("mobile_unetr_3d")[0]), 1).plan_experiment()
    assert not (folder / "ours.json").exists()


def test_missing_modalities_are_told_before_planning(tmp_path, monkeypatch):
    folder = dataset.write(tmp_path, monkeypatch, channels=("T1", "T2"))
    source = tmp_path / "raw" / folder.name / "dataset.json"
    with pytest.raises(ValueError, match=f"t1ce.*give channel_names in {source}"):
        planner_of(folder, TrainingMemory(*registry.find("dualbranch_14_ghostnet")), 1)


def test_channels_under_nnunets_older_key(folder, tmp_path):
    path = tmp_path / "raw" / folder.name / "dataset.json"
    described = json.loads(path.read_text())
    described["modality"] = described.pop("channel_names")
    path.write_text(json.dumps(described))
    planner_of(folder, Simple(registry.find("dualbranch_14_ghostnet")[0]), 1000).plan_experiment()
    assert "3d_fullres" in dataset.plans(folder, "ours")["configurations"]


def test_a_network_of_one_input_size_has_nothing_to_plan(folder):
    spec = dataclasses.replace(registry.find("unet3d")[0], input_size=(64, 64, 64))
    with pytest.raises(ValueError, match="64x64x64 voxels only"):
        planner_of(folder, Simple(spec), 1)
