"""A tiny dataset with a 2d configuration and a cascade beside 3d_fullres."""

import json

import pytest

from nnunet_ext.networks.stock_plan import stock_plan
from tests.trainers import workspace
from tests.trainers.conftest import use


def write(root):
    folder = workspace.write(root)
    path = folder / "nnUNetPlans.json"
    plans = json.loads(path.read_text())
    full = plans["configurations"]["3d_fullres"]
    flat = {"conv_op": "torch.nn.modules.conv.Conv2d", "norm_op": "torch.nn.modules.instancenorm.InstanceNorm2d"}
    arguments = {**stock_plan(2, 3), **flat}
    plans["configurations"] |= {
        "2d": {
            **full,
            "patch_size": workspace.PATCH[1:],
            "median_image_size_in_voxels": list(workspace.SHAPE[1:]),
            "spacing": [1.0, 1.0],
            "architecture": {**full["architecture"], "arch_kwargs": arguments},
        },
        "3d_lowres": {**full, "next_stage": "3d_cascade_fullres"},
        "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
    }
    path.write_text(json.dumps(plans))
    # one fold that validates its training cases too: the cascade's next stage trains on these predictions
    splits = [{"train": ["case0", "case1"], "val": ["case0", "case1", "case3"]}]
    (folder / "splits_final.json").write_text(json.dumps(splits))


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    root = tmp_path_factory.mktemp("coordinates")
    write(root)
    return root


@pytest.fixture
def nnunet(dataset, tmp_path, monkeypatch):
    """nnU-Net's folders, with results of the test's own."""
    use(monkeypatch, dataset, tmp_path / "results")
    return tmp_path / "results"
