"""A few kinds of networks compile as one graph and compute the same; ``benchmarks/compile.py`` shows it for all."""

import json

import pytest
import torch
from torch import nn

from benchmarks import compile as benchmark
from benchmarks import record
from nnunet_ext.networks import registry

NETWORKS = ("SwinUNETR", "QuadBranchAttention", "MobileUNETR")


@pytest.mark.parametrize("name", NETWORKS)
def test_compiled_it_is_the_same_function(monkeypatch, name):
    monkeypatch.setattr(benchmark, "STAGES", 3)
    spec, _ = registry.find(name)
    row = benchmark.compare(spec, 2)
    assert row.equal, row


def test_the_file_of_results_shows_it_for_every_network_and_no_family_is_compiled_unmeasured():
    results = json.loads((record.RESULTS / "compile.json").read_text(encoding="utf-8"))
    rows = {row["name"]: benchmark.Row(**row) for row in results["rows"]}
    assert list(rows) == [spec.trainer for spec in registry.specs()], "run `python benchmarks/compile.py`"
    assert all(row.equal for row in rows.values())
    assert results["hardware"]["gpu"] or not any(spec.compile for spec in registry.specs())


def test_another_function_or_a_break_of_the_graph_does_not_pass(monkeypatch):
    spec, _ = registry.find("UNet3D")
    networks = []

    def build(spec, dims, patch):
        torch.manual_seed(0)
        networks.append(nn.Sequential(nn.Conv2d(4, 3, 1), Listed()).double())
        return networks[-1]

    class Listed(nn.Module):
        def forward(self, x):
            if self.breaks:
                torch._dynamo.graph_break()
            return [x + torch.compiler.is_compiling() * 1e-6]

    monkeypatch.setattr(benchmark, "build", build)
    Listed.breaks = False
    row = benchmark.compare(spec, 2)
    assert not row.equal
    assert row.output > benchmark.TOLERANCE
    assert row.prediction > benchmark.TOLERANCE
    Listed.breaks = True
    with pytest.raises(torch._dynamo.exc.Unsupported):
        benchmark.compare(spec, 2)
