"""Detectors see one class; the words NoAug and NoMirror."""

import json

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.run.run_training import run_training
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_ext.trainers import trainer_class
from nnunet_ext.trainers.detector import whole_tumor_only
from nnunet_ext.trainers.seeding import leaves
from tests.trainers import workspace
from tests.trainers.test_training import trainer_for

CPU = torch.device("cpu")
DETECTOR = "nnUNetTrainer_ROIUNet3D_Tiny_1epochs_iter1_seed1"


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"background": 0, "whole tumor": [1, 2, 3], "core": [1, 3], "enhancing": [3]}, [1, 2, 3]),
        ({"background": 0, "edema": 1, "core": 2}, [1, 2]),
        ({"background": 0, "tumor": 1}, 1),
        ({"background": 0, "edema": 1, "core": 2, "ignore": 3}, [1, 2]),
        ({"background": 0, "tumor": [1], "ignore": 2}, 1),
    ],
)
def test_all_labels_become_the_whole_tumor(labels, expected):
    original = {"labels": labels, "regions_class_order": [2, 1, 3], "file_ending": ".nii.gz"}
    found = whole_tumor_only(original)
    assert found["labels"]["whole tumor"] == expected
    assert found["labels"].get("ignore") == labels.get("ignore")
    assert found["file_ending"] == ".nii.gz"
    assert original["labels"] is labels
    manager = LabelManager(found["labels"], found.get("regions_class_order"))
    assert manager.num_segmentation_heads == (1 if isinstance(expected, list) else 2)


def test_nothing_to_find():
    with pytest.raises(ValueError, match="only the labels"):
        whole_tumor_only({"labels": {"background": 0, "ignore": 1}})


def test_a_detector_trains_validates_and_predicts_with_nnunet(nnunet, tmp_path):
    run_training(workspace.DATASET, "3d_fullres", 0, DETECTOR, device=CPU)
    folder = nnunet / workspace.DATASET / f"{DETECTOR}__nnUNetPlans__3d_fullres"
    saved = json.loads((folder / "dataset.json").read_text())
    assert saved["labels"] == {"background": 0, "whole tumor": [1, 2, 3]}
    summary = json.loads((folder / "fold_0" / "validation" / "summary.json").read_text())
    assert list(summary["mean"]) == ["(1, 2, 3)"]
    stock = nnUNetPredictor(device=CPU, allow_tqdm=False)
    stock.initialize_from_trained_model_folder(str(folder), (0,))
    image, _ = workspace.case(np.random.default_rng(5), workspace.FOUR)
    found = stock.predict_single_npy_array(image, {"spacing": [1.0] * 3})
    assert set(np.unique(found)) <= {0, 1}


def spatial(trainer):
    rotation, dummy, loaded, mirrored = trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
    trainer.initialize()
    transforms = trainer.get_training_transforms(
        trainer.configuration_manager.patch_size,
        rotation,
        [[1, 1, 1]],
        mirrored,
        dummy,
        use_mask_for_norm=[True] * 4,
        foreground_labels=[1, 2, 3],
        regions=[(1, 2, 3), (1, 3), (3,)],
    )
    kinds = {type(leaf) for leaf in leaves(transforms)}
    return {SpatialTransform, MirrorTransform} & kinds, mirrored, list(loaded), trainer.inference_allowed_mirroring_axes


@pytest.mark.parametrize(
    ("word", "kinds", "mirrored", "larger"),
    [
        ("", {SpatialTransform, MirrorTransform}, (0, 1, 2), True),
        ("_NoMirror", {SpatialTransform}, None, True),
        ("_NoAug", set(), None, False),
    ],
)
def test_augmentation_is_switched_off(nnunet, word, kinds, mirrored, larger):
    trainer = trainer_for(f"nnUNetTrainer_UNet3D_XS{word}_1epochs_iter1")
    found, axes, loaded, inference = spatial(trainer)
    assert (found, axes, inference) == (kinds, mirrored, mirrored)
    assert (loaded != workspace.PATCH) is larger


def test_training_without_augmentation(nnunet):
    name = "nnUNetTrainer_ROIMobileUNETR3D_Tiny_NoAug_1epochs_iter1_seed1"
    run_training(workspace.DATASET, "3d_fullres", 0, name, device=CPU)
    folder = nnunet / workspace.DATASET / f"{name}__nnUNetPlans__3d_fullres"
    saved = torch.load(folder / "fold_0" / "checkpoint_final.pth", weights_only=False)
    assert saved["inference_allowed_mirroring_axes"] is None
    assert trainer_class(name).recipe.as_dict()["augmentation"] == "none"


def test_a_word_for_what_the_network_does_anyway_is_refused():
    with pytest.raises(ValueError, match="the legal name is nnUNetTrainer_ROIUNet3D_Tiny_3epochs"):
        trainer_class("nnUNetTrainer_ROIUNet3D_Tiny_CoordConv_3epochs")
