"""Small folders of trained models and of test predictions, with nnU-Net's files of probabilities."""

import json
import pickle

import numpy as np

from tests.evaluation.files import save, tumour

DATASET = "Dataset501_BraTS"
REGIONS = {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [1, 3], "enhancing tumor": [3]}
LABELS = {"background": 0, "NCR": 1, "ED": 2, "ET": 3}
SHAPE = (8, 9, 10)
FOLDS = {"0": ("v0", "v1", "v2"), "1": ("v3", "v4", "v5")}
TEST = ("t0", "t1")
NAMES = ("nnUNetTrainer_A_seed1", "nnUNetTrainer_B_seed1", "nnUNetTrainer_A_seed2")
PLANS = {
    "plans_name": "P",
    "dataset_name": DATASET,
    "image_reader_writer": "SimpleITKIO",
    "label_manager": "LabelManager",
}
PROPERTIES = {
    "sitk_stuff": {"spacing": (1.0, 1.0, 2.0), "origin": (0.0, 1.0, 2.0), "direction": (1.0, 0, 0, 0, 1, 0, 0, 0, 1)},
    "spacing": [2.0, 1.0, 1.0],
    "class_locations": {1: np.arange(3), "n": np.int64(4)},
}


def dataset(labels=None):
    found = {"labels": labels or REGIONS, "file_ending": ".nii.gz", "channel_names": {"0": "T1"}}
    return {**found, "regions_class_order": [2, 1, 3]} if found["labels"] is REGIONS else found


def truth(case):
    """A tumour whose place depends on the case."""
    at = np.random.default_rng(list(case.encode())).integers(0, 3, 3)
    return tumour(SHAPE, at=(int(at[0]), int(at[1]), int(at[2])))


def probabilities(labels, kind, generator, sharpness=1.5):
    """What a mediocre network would say: (C, Z, Y, X), regions or classes."""
    sets = [np.isin(labels, own) for own in ([1, 2, 3], [1, 3], [3])]
    if kind is LABELS:
        sets = [labels == label for label in range(4)]
    logits = np.stack([np.where(mask, sharpness, -sharpness) for mask in sets]) + generator.normal(
        0, 1.5, (len(sets), *SHAPE)
    )
    values = 1 / (1 + np.exp(-logits)) if kind is not LABELS else np.exp(logits) / np.exp(logits).sum(0)
    return values.astype(np.float32)


def put(folder, case, values, labels=REGIONS):
    """A case as nnU-Net writes it with its probabilities."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / f"{case}.npz", probabilities=values)
    (folder / f"{case}.pkl").write_bytes(pickle.dumps(PROPERTIES, protocol=4))
    save(folder / f"{case}.nii.gz", np.zeros(SHAPE, np.uint8), spacing=(1, 1, 2), origin=(0, 1, 2))


def describe(folder, labels=REGIONS):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps(dataset(labels)))
    (folder / "plans.json").write_text(json.dumps(PLANS))


def make(root, names=NAMES, labels=REGIONS):
    """Models, their test predictions and all references below ``root``; returns nnU-Net's variables."""
    for place, cases in (
        ("preprocessed/Dataset501_BraTS/gt_segmentations", sum(FOLDS.values(), ())),
        ("testlabels", TEST),
    ):
        for case in cases:
            save(root / place / f"{case}.nii.gz", truth(case), spacing=(1, 1, 2), origin=(0, 1, 2))
    for number, name in enumerate(names):
        generator = np.random.default_rng(number)
        model = root / "results" / DATASET / f"{name}__P__3d_fullres"
        describe(model, labels)
        describe(root / "test" / name, labels)
        for folder, cases in [
            *((model / f"fold_{f}/validation", c) for f, c in FOLDS.items()),
            (root / "test" / name, TEST),
        ]:
            for case in cases:
                put(folder, case, probabilities(truth(case), labels, generator, 1 + 0.3 * number))
    return {"nnUNet_preprocessed": str(root / "preprocessed"), "nnUNet_results": str(root / "results")}


def words(root, names=NAMES, tests=True):
    """The command's --model options."""
    found = []
    for name in names:
        found += ["--model", str(root / "results" / DATASET / f"{name}__P__3d_fullres")]
        found += [str(root / "test" / name)] if tests else []
    return found
