"""nnU-Net's folders with a tiny dataset of files that no network ever reads: plans, cases, splits, images."""

import json

from tests.trainers import workspace
from tests.trainers.workspace import DATASET

CASES = [f"case{i}" for i in range(6)]
SPLITS = [{"train": CASES[2:], "val": CASES[:2]}, {"train": CASES[:4], "val": CASES[4:]}]


def write(root, monkeypatch, *, splits=True, held_out=2):
    """Folders below ``root``, with names as nnU-Net gives them and empty files; sets the variables."""
    names = {f"nnUNet_{name}": root / name for name in ("raw", "preprocessed", "results")}
    for name, path in names.items():
        monkeypatch.setenv(name, str(path))
    folder = root / "preprocessed" / DATASET
    plans = workspace.plans(4)
    plans["configurations"]["3d_crop"] = {"inherits_from": "3d_fullres", "patch_size": [8, 8, 8]}
    plans["configurations"]["3d_roi"] = {"inherits_from": "3d_fullres", "data_identifier": "roi"}
    for data in ("tiny_3d_fullres", "roi"):
        (folder / data).mkdir(parents=True)
        for case in CASES:
            for name in (f"{case}.b2nd", f"{case}_seg.b2nd", f"{case}.pkl"):
                (folder / data / name).touch()
    files = {"nnUNetPlans": plans, "dataset": workspace.dataset_json(workspace.FOUR)}
    files |= {"splits_final": SPLITS} if splits else {}
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    images = root / "raw" / DATASET / "imagesTs"
    images.mkdir(parents=True)
    for i in range(held_out):
        for channel in range(4):
            (images / f"held{i}_{channel:04d}.nii.gz").touch()
    if held_out:
        images.with_name("labelsTs").mkdir()
    for i in range(held_out):
        (images.with_name("labelsTs") / f"held{i}.nii.gz").touch()
    return folder
