"""A tiny preprocessed dataset with targets of every kind, and one training on it."""

import json
from pathlib import Path

import pytest
import torch
from nnunetv2.run.run_training import run_training

from nnunet_ext.networks.stock_plan import stock_plan
from nnunet_ext.outcomes.columns import SCHEMA_FILE, TABLE_FILE
from tests.outcomes.pictures import PAIRS, picture
from tests.trainers import workspace
from tests.trainers.conftest import use

CPU = torch.device("cpu")
NAME = "nnUNetTrainer_CaseDualBranchGhost_XS_NoAug_2epochs_iter2_seed7"
SCHEMA = {
    "format": 1,
    "columns": {
        "grade": {"kind": "class", "levels": ["LGG", "HGG"]},
        "stage": {"kind": "ordinal", "levels": ["I", "II", "III"]},
        "score": {"kind": "regression", "unit": "points", "bands": [1.0]},
        "days": {"kind": "survival", "censoring": "alive", "cuts": [300, 450]},
    },
    "groups": ["patient"],
}
TABLE = """case,grade,stage,score,days,alive,patient
case0,LGG,I,1.5,700,0,P0
case1,HGG,III,4.0,120,0,P1
case2,HGG,II,,400,1,P2
case3,LGG,I,2.0,650,1,P3
case4,HGG,III,3.5,200,0,P4
"""


def write_targets(folder, schema=SCHEMA, table=TABLE):
    (folder / SCHEMA_FILE).write_text(json.dumps(schema), encoding="utf-8")
    (folder / TABLE_FILE).write_text(table, encoding="utf-8")


def train(name=NAME, configuration="3d_fullres", **options):
    """The stock command's function, in this process."""
    run_training(workspace.DATASET, configuration, 0, name, device=CPU, **options)


def fold_of(results, name=NAME, configuration="3d_fullres"):
    return results / workspace.DATASET / f"{name}__nnUNetPlans__{configuration}" / "fold_0"


def add_2d(folder):
    """A 2D configuration of the same preprocessed data: every slice is an image."""
    path = folder / "nnUNetPlans.json"
    plans = json.loads(path.read_text(encoding="utf-8"))
    whole = plans["configurations"]["3d_fullres"]
    architecture = {**whole["architecture"], "arch_kwargs": stock_plan(2, 3)}
    flat = {
        **whole,
        "patch_size": whole["patch_size"][1:],
        "spacing": whole["spacing"][1:],
        "architecture": architecture,
    }
    plans["configurations"]["2d"] = {**flat, "median_image_size_in_voxels": whole["median_image_size_in_voxels"][1:]}
    path.write_text(json.dumps(plans), encoding="utf-8")


@pytest.fixture(scope="session")
def case_dataset(tmp_path_factory):
    """The preprocessed dataset with targets; tests do not write into it."""
    root = tmp_path_factory.mktemp("cases")
    folder = workspace.write(root)
    write_targets(folder)
    add_2d(folder)
    return root


@pytest.fixture
def nnunet(case_dataset, tmp_path, monkeypatch):
    """That dataset with a results folder of its own; gives the results folder."""
    use(monkeypatch, case_dataset, tmp_path / "results")
    return tmp_path / "results"


@pytest.fixture(scope="session")
def trained(case_dataset, tmp_path_factory):
    """The results of one training with all kinds of heads; tests do not write into it."""
    results = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        use(patch, case_dataset, results)
        train()
    return results


@pytest.fixture
def roots(tmp_path, monkeypatch) -> Path:
    for kind in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{kind}", str(tmp_path / kind))
    return tmp_path


@pytest.fixture
def photos(tmp_path) -> Path:
    """Six images of each of two classes."""
    folder = tmp_path / "photos"
    for i in range(6):
        picture(folder / "ok" / f"im {i}.png", i)
        picture(folder / "defect" / "deep" / f"im{i}.bmp", 10 + i)
    (folder / "notes.txt").touch()
    (folder / "ok" / ".hidden.png").touch()
    return folder


@pytest.fixture
def pairs(tmp_path) -> Path:
    """Eight cases of two images; the last patient's are for testing."""
    folder = tmp_path / "pairs"
    for i in range(8):
        picture(folder / "f" / f"{i}.png", i)
        picture(folder / "l" / f"{i}.png", 10 + i)
    (folder / "targets.csv").write_text(PAIRS)
    (folder / "targets.json").write_text(json.dumps(SCHEMA))
    return folder
