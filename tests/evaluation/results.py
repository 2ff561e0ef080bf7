"""A small nnUNet_results: two methods, two seeds, two folds of two cases each, written in milliseconds."""

import json
from pathlib import Path

import numpy as np
import SimpleITK

DATASET = "Dataset501_BraTS"
LABELS = {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [1, 3], "enhancing tumor": [3]}
FOLDS = (("case_a", "case_b"), ("case_c", "case_d"))
METHODS = ("nnUNetTrainer_UNet3D_XS", "nnUNetTrainer_DualBranchGhost_XS")
LOG = (
    "2026-11-27 01:00:00.1: Epoch 0\n2026-11-27 01:00:00.1: Current learning rate: 0.01\n"
    "2026-11-27 01:00:00.1: train_loss 0.5\n2026-11-27 01:00:00.1: val_loss 0.4\n"
    "2026-11-27 01:00:00.1: Pseudo dice [0.5, 0.4, 0.3]\n2026-11-27 01:00:00.1: Epoch time: 3.0 s\n"
)


def write(path: Path, labels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(labels.astype(np.uint8)), str(path))


def tumour(generator: np.random.Generator) -> np.ndarray:
    labels = np.zeros((12, 12, 12), int)
    z, y, x = generator.integers(2, 4, 3)
    labels[z : z + 7, y : y + 7, x : x + 7] = 2
    labels[z + 1 : z + 5, y + 1 : y + 5, x + 1 : x + 5] = 3
    labels[z + 2 : z + 4, y + 2 : y + 4, x + 2 : x + 4] = 1
    return labels


def make_results(root: Path, seeds=(1, 2)) -> dict[str, str]:
    """The folders below root; returns nnU-Net's variables."""
    generator = np.random.default_rng(0)
    variables = {f"nnUNet_{name}": str(root / name) for name in ("raw", "preprocessed", "results")}
    preprocessed = root / "preprocessed" / DATASET
    truth = {case: tumour(generator) for fold in FOLDS for case in fold}
    for case, labels in truth.items():
        write(preprocessed / "gt_segmentations" / f"{case}.nii.gz", labels)
    splits = [{"train": sorted(set(truth) - set(fold)), "val": list(fold)} for fold in FOLDS]
    (preprocessed / "splits_final.json").write_text(json.dumps(splits))
    dataset = {"labels": LABELS, "regions_class_order": [2, 1, 3], "file_ending": ".nii.gz", "name": DATASET}
    for method in METHODS:
        for seed in seeds:
            model = root / "results" / DATASET / f"{method}_seed{seed}__nnUNetPlans_cpu__3d_fullres"
            for index, fold in enumerate(FOLDS):
                folder = model / f"fold_{index}"
                for case in fold:
                    noisy = truth[case].copy()
                    wrong = generator.random(noisy.shape) < (0.02 if "Ghost" in method else 0.1)
                    noisy[wrong] = generator.integers(0, 4, wrong.sum())
                    write(folder / "validation" / f"{case}.nii.gz", noisy)
                (folder / "validation" / "summary.json").write_text(json.dumps({"metric_per_case": []}))
                (folder / "checkpoint_final.pth").write_bytes(b"weights")
                (folder / "training_log_2026_1_1_00_00_00.txt").write_text(LOG)
            (model / "dataset.json").write_text(json.dumps(dataset))
            (model / "plans.json").write_text(json.dumps({"plans_name": "nnUNetPlans_cpu"}))
    return variables
