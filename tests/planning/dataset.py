"""A dataset as nnU-Net's planner sees it: a fingerprint and file names, no images."""

import json
from pathlib import Path

from nnunetv2.experiment_planning.experiment_planners import default_experiment_planner as stock

NAME = "Dataset501_Tiny"
CHANNELS = ("T1", "T1ce", "T2", "FLAIR")
SHAPE, SPACING = (24, 32, 20), (1.0, 1.0, 1.0)
CASES = 60


def write(root: Path, monkeypatch, shape=SHAPE, spacing=SPACING, channels=CHANNELS) -> Path:
    """Writes raw and preprocessed folders with nnU-Net's own plans; returns the preprocessed dataset's folder."""
    raw, preprocessed = root / "raw" / NAME, root / "preprocessed" / NAME
    for folder in (raw / "imagesTr", raw / "labelsTr", preprocessed):
        folder.mkdir(parents=True)
    for i in range(len(channels)):
        (raw / "imagesTr" / f"case_{i:04d}.nii.gz").touch()
    dataset = {
        "channel_names": {str(i): name for i, name in enumerate(channels)},
        "labels": {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [1, 3], "enhancing tumor": [3]},
        "regions_class_order": [2, 1, 3],
        "numTraining": CASES,
        "file_ending": ".nii.gz",
        "overwrite_image_reader_writer": "SimpleITKIO",
    }
    fingerprint = {
        "spacings": [list(spacing)] * 2,
        "shapes_after_crop": [list(shape)] * 2,
        "median_relative_size_after_cropping": 0.5,
        "foreground_intensity_properties_per_channel": {str(i): {"mean": 1.0} for i in range(len(channels))},
    }
    (raw / "dataset.json").write_text(json.dumps(dataset))
    (preprocessed / "dataset_fingerprint.json").write_text(json.dumps(fingerprint))
    for variable, folder in (("nnUNet_raw", raw.parent), ("nnUNet_preprocessed", preprocessed.parent)):
        monkeypatch.setenv(variable, str(folder))
        monkeypatch.setattr(stock, variable, str(folder))  # read from the environment when nnunetv2 is imported
    cheap = type("Cheap", (stock.ExperimentPlanner,), {"static_estimate_VRAM_usage": staticmethod(lambda *_: 1)})
    cheap(NAME).plan_experiment()
    return preprocessed


def plans(folder: Path, name: str = "nnUNetPlans"):
    return json.loads((folder / f"{name}.json").read_text())
