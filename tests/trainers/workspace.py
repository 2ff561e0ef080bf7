"""A tiny preprocessed dataset in nnU-Net's own formats: images whose tumour can be seen in T1ce and FLAIR.

Written directly, so that trainer tests need neither planner nor preprocessing; tests/integration goes the whole way.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

from nnunet_ext.networks.stock_plan import stock_plan

DATASET = "Dataset999_Tiny"
FOUR = ("T1", "T1ce", "T2", "FLAIR")
SHAPE = (20, 18, 16)
PATCH = [16, 16, 16]
CASES = 5


def plans(n_channels: int) -> dict[str, Any]:
    """A plans dictionary with one 3D configuration of three stages."""
    configuration = {
        "data_identifier": "tiny_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": PATCH,
        "median_image_size_in_voxels": list(SHAPE),
        "spacing": [1.0, 1.0, 1.0],
        "normalization_schemes": ["ZScoreNormalization"] * n_channels,
        "use_mask_for_norm": [True] * n_channels,
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None},
        "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, "order_z": 0, "force_separate_z": None},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None},
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": stock_plan(3, 3),
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        "batch_dice": False,
    }
    return {
        "dataset_name": DATASET,
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [1.0, 1.0, 1.0],
        "original_median_shape_after_transp": list(SHAPE),
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"3d_fullres": configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {str(i): {} for i in range(n_channels)},
    }


def dataset_json(channel_names: Sequence[str]) -> dict[str, Any]:
    return {
        "channel_names": {str(i): n for i, n in enumerate(channel_names)},
        "labels": {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [1, 3], "enhancing tumor": [3]},
        "regions_class_order": [2, 1, 3],
        "numTraining": CASES,
        "file_ending": ".nii.gz",
    }


def case(rng: np.random.Generator, channel_names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Image (C, Z, Y, X) and segmentation (1, Z, Y, X)."""
    seg = np.zeros((1, *SHAPE), np.int8)
    z, y, x = (int(v) for v in rng.integers(2, 8, 3))
    seg[0, z : z + 8, y : y + 8, x : x + 7] = 2
    seg[0, z + 2 : z + 6, y + 2 : y + 6, x + 2 : x + 5] = 3
    seg[0, z + 3 : z + 5, y + 3 : y + 5, x + 3 : x + 4] = 1
    signal = {"FLAIR": seg[0] > 0, "T1ce": seg[0] == 3}
    image = rng.normal(size=(len(channel_names), *SHAPE)) * 0.3
    for channel, name in enumerate(channel_names):
        image[channel] += 2 * signal.get(name, 0)
    return image.astype(np.float32), seg


def properties(seg: np.ndarray) -> dict[str, Any]:
    locations = {label: np.argwhere(np.isin(seg, label)) for label in ((1, 2, 3), (1, 3), (3,))}
    size = list(SHAPE)
    return {
        "sitk_stuff": {
            "spacing": (1.0, 1.0, 1.0),
            "origin": (0.0, 0.0, 0.0),
            "direction": tuple(np.eye(3).ravel()),
        },
        "spacing": [1.0, 1.0, 1.0],
        "shape_before_cropping": size,
        "bbox_used_for_cropping": [[0, s] for s in size],
        "shape_after_cropping_and_before_resampling": size,
        "class_locations": {k: v.astype(np.int64) for k, v in locations.items()},
    }


def write(root: Path, channel_names: Sequence[str] = FOUR) -> Path:
    """Writes nnUNet_preprocessed and an empty nnUNet_results below ``root``; returns the dataset's folder."""
    folder = root / "preprocessed" / DATASET
    data, truth = folder / "tiny_3d_fullres", folder / "gt_segmentations"
    for made in (data, truth, root / "results", root / "raw" / DATASET):
        made.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for i in range(CASES):
        image, seg = case(rng, channel_names)
        nnUNetDatasetBlosc2.save_case(image, seg, properties(seg), str(data / f"case{i}"))
        nib.save(nib.Nifti1Image(seg[0].transpose(2, 1, 0).astype(np.uint8), np.eye(4)), truth / f"case{i}.nii.gz")
    files = {
        "nnUNetPlans.json": plans(len(channel_names)),
        "dataset.json": dataset_json(channel_names),
        "dataset_fingerprint.json": {},
        "splits_final.json": [{"train": ["case0", "case1", "case2"], "val": ["case3", "case4"]}],
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder
