import json
import sys

import pytest
import torch
from torch import nn

from benchmarks import forward_cpu
from nnunet_ext.networks import cost_table


def test_a_multiply_accumulate_counts_once():
    with torch.device("meta"):
        convolution = nn.Conv3d(2, 3, 3, padding=1)
    assert forward_cpu.gmacs(convolution, (1, 2, 10, 10, 10)) == pytest.approx(2 * 3 * 27 * 1000 / 1e9)


def test_every_network_for_the_usual_patch_is_measured():
    names = forward_cpu.default_models()
    assert {"dualbranch_14_ghostnet_S", "quadbranch_4modal_unet_S", "unet3d_S", "swin_unetr_S"} <= set(names)
    assert not any(name.startswith(("roi", "mobile_unetr_S")) for name in names)


def test_the_committed_file_is_of_all_networks_as_they_are():
    rows = json.loads((forward_cpu.RESULTS / "forward_cpu.json").read_text(encoding="utf-8"))["rows"]
    costs = {f"{c.network} {c.size}": (c.parameters, c.macs / 1e9) for c in cost_table.rows().values()}
    measured = {row["name"]: (row["parameters"], row["gmacs"]) for row in rows if row["name"] != forward_cpu.REFERENCE}
    assert sorted(measured) == sorted(" ".join(name.rsplit("_", 1)) for name in forward_cpu.default_models())
    assert measured == {name: pytest.approx(costs[name]) for name in measured}


def test_ratios_are_to_the_reference_of_the_same_round(monkeypatch):
    # seconds (processor, clock) of the reference and of the network: a warm-up, then three rounds
    times = iter([(99, 99), (1, 1), (10, 20), (2, 10), (12, 20), (2, 2), (30, 20), (3, 5)])
    monkeypatch.setattr(forward_cpu, "forward", lambda *_: next(times))
    reference, network = forward_cpu.compare(["unet3d_XS"], (32, 32, 32), 3)
    assert reference.faster == reference.faster_by_clock == 1
    assert (network.faster, network.spread, network.faster_by_clock) == (6, (5, 10), 4)
    assert (network.processor, network.clock) == (2, 5)


def test_the_files_tell_the_same(monkeypatch, tmp_path, capsys):
    options = ["--models", "DualBranchGhost_XS", "--patch", "32", "32", "32", "--repeats", "1", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["forward_cpu.py", *options])
    assert forward_cpu.main() == 0
    record = json.loads((tmp_path / "forward_cpu.json").read_text(encoding="utf-8"))
    assert [row["name"] for row in record["rows"]] == ["nnunet_plain", "dualbranch_14_ghostnet XS"]
    assert {"versions", "hardware", "threads"} <= set(record)
    text = (tmp_path / "forward_cpu.md").read_text(encoding="utf-8")
    assert text.strip() == capsys.readouterr().out.strip()
    assert f"{record['rows'][1]['gmacs']:.1f}" in text


def test_an_unknown_network_ends_in_one_sentence(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["forward_cpu.py", "--models", "DualBranchGost"])
    assert forward_cpu.main() == 2
    assert "nearest" in capsys.readouterr().err
