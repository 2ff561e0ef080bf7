"""Memory of trainings under plans as they are, and splits before there are any."""

import json

import numpy as np
import pytest
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_ext.networks import registry
from nnunet_ext.planning.memory import TrainingMemory
from nnunet_ext.planning.needed import of_network, of_stock
from nnunet_ext.planning.splits import make_splits
from tests.trainers import workspace

CONFIGURATION = workspace.plans(4)["configurations"]["3d_fullres"]
DATASET = workspace.dataset_json(workspace.FOUR)


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_a_network_needs_what_the_planner_predicts(device):
    spec, size = registry.find("unet3d_XS")
    found, left_out = of_network(spec, size, {"coordinates": True, "loss": "Focal"}, CONFIGURATION, DATASET, device)
    precision = "device" if device == "cuda" else "FP32"
    memory = TrainingMemory(spec, size, further_channels=3, precision=precision, device=device)
    arguments = CONFIGURATION["architecture"]["arch_kwargs"], (2, 4, *workspace.PATCH)
    assert found == memory(*arguments, classes=3, image_channels=4)
    assert left_out == ("loss",)


def test_nnunets_own_network_needs_what_its_twin_here_needs():
    spec, size = registry.find("unet3d_stride")
    assert spec.widths[size] == CONFIGURATION["architecture"]["arch_kwargs"]["features_per_stage"][0]
    mine, _ = of_network(spec, size, {}, CONFIGURATION, DATASET, "cuda")
    assert of_stock(CONFIGURATION, DATASET, "cuda") == pytest.approx(mine, rel=0.02)


def test_a_detector_has_one_output():
    spec, size = registry.find("roi_unet3d_Tiny")
    found, _ = of_network(spec, size, {}, CONFIGURATION, DATASET, "cuda")
    memory = TrainingMemory(spec, size)
    arguments = CONFIGURATION["architecture"]["arch_kwargs"], (2, 4, *workspace.PATCH)
    assert found == memory(*arguments, classes=1, image_channels=4)


def test_a_words_batch_counts_in_place_of_the_plans():
    spec, size = registry.find("unet3d_XS")
    larger = of_network(spec, size, {}, {**CONFIGURATION, "batch_size": 5}, DATASET, "cpu")
    assert of_network(spec, size, {"batch": 5}, CONFIGURATION, DATASET, "cpu") == larger
    assert larger[1] == ()


def test_missing_modalities_are_refused():
    spec, size = registry.find("dualbranch_14_ghostnet_XS")
    with pytest.raises(ValueError, match="T1"):
        of_network(spec, size, {}, CONFIGURATION, workspace.dataset_json(("T1", "T2")), "cuda")


def test_splits_are_those_that_nnunets_first_training_would_write(tmp_path):
    """The slow twin is nnU-Net's own trainer, which makes them where there are none."""
    data = workspace.write(tmp_path) / "tiny_3d_fullres"
    for name in ("mine", "theirs"):
        (tmp_path / name).mkdir()
    assert make_splits(tmp_path / "mine", data)
    trainer = nnUNetTrainer.__new__(nnUNetTrainer)
    trainer.dataset_class, trainer.fold, trainer.folder_with_segs_from_previous_stage = None, 0, None
    trainer.preprocessed_dataset_folder, trainer.preprocessed_dataset_folder_base = str(data), str(tmp_path / "theirs")
    trainer.print_to_log_file = lambda *_: None
    trainer.do_split()
    mine, theirs = (json.loads((tmp_path / name / "splits_final.json").read_text()) for name in ("mine", "theirs"))
    assert mine == theirs
    assert len(mine) == 5
    assert sorted(np.concatenate([fold["val"] for fold in mine])) == [f"case{i}" for i in range(workspace.CASES)]


def test_splits_that_are_there_stay(tmp_path):
    path = tmp_path / "splits_final.json"
    path.write_text("[]")
    assert not make_splits(tmp_path, tmp_path / "none")
    assert path.read_text() == "[]"
    assert list(tmp_path.iterdir()) == [path]
