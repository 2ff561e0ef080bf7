import dataclasses
import json
import sys

import pytest
import torch

from benchmarks import prediction
from benchmarks.costs.models import Input, choose
from benchmarks.costs.rows import Request, Row
from nnunet_ext.profiling.cost import Cost, Memory
from nnunet_ext.profiling.measure import Measured

MIB = 2**20


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Runs the command on rows with the given measured MiB, or without a measurement; all are predicted at 100 MiB."""

    def command(*measured: float | None, arguments=()) -> int:
        models = choose(["unet3d_xs", "unet3d_s"], Input(patch=(32, 32, 32)))[: len(measured)]
        made = [row_of(model, mib) for model, mib in zip(models, measured, strict=True)]
        monkeypatch.setattr(prediction, "rows", lambda *_: made)
        monkeypatch.setattr(sys, "argv", ["prediction.py", "--out", str(tmp_path), *arguments])
        return prediction.main()

    return command


def row_of(model, mib: float | None) -> Row:
    request = Request(device="cpu", precision="fp32")
    if mib is None:
        return Row(model, request, status="failed: no memory")
    others = dict.fromkeys(("copies", "parameters", "buffers", "gradients", "optimiser", "temporaries", "inputs"), 0)
    memory = Memory(100 * MIB, 0, 0, "bottleneck", activations=100 * MIB, **others)
    cost = Cost(model.input_shape, "fp32", "cpu", 1, 1, 1, memory, memory, ())
    seen = Measured((mib * MIB, 0.5 * MIB), (mib * MIB, 0.0), (0.0, 0.0), (0.0, 0.0), 5)
    return dataclasses.replace(Row(model, request), cost=cost, training=seen)


@pytest.mark.parametrize(
    ("measured", "code"), [((100, 104.9), 0), ((100, 106), 1), ((94, 100), 1), ((100, None), 1)], ids=str
)
def test_exit_code_says_whether_every_prediction_is_right(run, measured, code):
    assert run(*measured) == code


def test_table_and_json_are_written(run, tmp_path):
    run(98, None)
    text = (tmp_path / "prediction_cpu.md").read_text(encoding="utf-8")
    assert "64x64x64, fp32, cpu; 5 repeats" in text
    assert "PAM of a training step" in text
    assert "+2.04 %" in text
    assert "failed: no memory" in text
    rows = json.loads((tmp_path / "prediction_cpu.json").read_text(encoding="utf-8"))["rows"]
    assert [row["status"] for row in rows] == ["ok", "failed: no memory"]


def test_bad_input_ends_in_one_sentence(run, capsys):
    assert run(100, arguments=["--patch", "33", "64", "64"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_prediction_for_cuda_is_what_its_allocator_reports(tmp_path, monkeypatch):
    arguments = ["--device", "cuda", "--patch", "64", "64", "64", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["prediction.py", *arguments])
    assert prediction.main() == 0
