"""The measured backbones of timm are those that are declared, as they are now; the smallest is measured again."""

import json

import pytest
import torch

from benchmarks import record, timm_backbones
from nnunet_ext.networks.registry import find

NOT_ON_META = {"CaseRegNetY120"}  # timm finds its widths by torch.unique, which has no form there
MEASURED = {row["name"]: row for row in json.loads((record.RESULTS / "timm_backbones.json").read_text())["rows"]}


def test_all_backbones_were_measured_and_every_parameter_is_reached():
    assert list(MEASURED) == [spec.trainer for spec in timm_backbones.rows_of_timm()]
    for row in MEASURED.values():
        assert row["reached"] == row["tensors"] > 0
        assert 0 < row["last_two"] < row["parameters"]
        assert row["stages"] in (4, 5)


@pytest.mark.parametrize("name", sorted(set(MEASURED) - NOT_ON_META))
def test_the_measured_networks_are_those_of_today(name):
    with torch.device("meta"):
        network = timm_backbones.build(find(name)[0])
    stages = network.encoder.stage_modules()
    assert MEASURED[name] == {
        **MEASURED[name],
        "model": network.encoder.name,
        "parameters": timm_backbones.count([network.encoder]),
        "features": network.n_features,
        "stages": len(stages),
        "last_two": timm_backbones.count([module for stage in stages[-2:] for module in stage]),
        "tensors": len(list(network.parameters())),
    }


def test_a_small_one_again(tmp_path):
    assert timm_backbones.main(["--models", "CaseEfficientNetB0", "--out", str(tmp_path)]) == 0
    (row,) = json.loads((tmp_path / "timm_backbones.json").read_text())["rows"]
    assert row == MEASURED["CaseEfficientNetB0"]
    assert "| CaseEfficientNetB0 | efficientnet_b0.ra_in1k |" in (tmp_path / "timm_backbones.md").read_text()


def test_a_dead_parameter_is_counted(monkeypatch):
    def with_dead(spec, edge):
        network = torch.nn.Module()
        network.encoder, network.n_features = torch.nn.Linear(3, 3), 3
        network.encoder.stage_modules = lambda: [[network.encoder]] * 4
        network.dead = torch.nn.Linear(1, 1)
        network.forward = lambda x: network.encoder(x.mean((2, 3)))
        return network

    monkeypatch.setattr(timm_backbones, "build", with_dead)
    row = timm_backbones.measure(find("CaseResNet50")[0])
    assert (row.reached, row.tensors) == (2, 4)
