import json
import sys

import pytest

from benchmarks import plans
from nnunet_ext.planning.memory import TrainingMemory
from tests.planning import dataset


@pytest.fixture
def folder(tmp_path, monkeypatch, capsys):
    made = dataset.write(tmp_path, monkeypatch)
    monkeypatch.setattr(TrainingMemory, "__call__", proportional)
    capsys.readouterr()
    return made


def proportional(self, architecture, input_shape, *, classes, image_channels):
    voxels = 1
    for size in input_shape:
        voxels *= size
    return 2**20 + 16 * voxels


@pytest.fixture
def run(monkeypatch, tmp_path):
    def command(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["plans.py", "-d", "501", "--out", str(tmp_path / "out"), *arguments])
        return plans.main()

    return command


def test_a_line_for_every_network_and_target(run, folder, tmp_path, capsys):
    before = sorted(folder.iterdir())
    assert run("--networks", "UNet3D_XS", "SwinUNETR_XS", "--gpu-memory", "0.0001", "1", "--reserve", "0") == 0
    assert sorted(folder.iterdir()) == before
    records = json.loads((tmp_path / "out" / "plans.json").read_text(encoding="utf-8"))["rows"]
    assert [(r["network"], r["target_gb"]) for r in records] == [
        (name, target) for name in ("UNet3D_XS", "SwinUNETR_XS") for target in (0.0001, 1)
    ]
    assert not records[0]["fits"]
    assert "does not fit" in records[0]["refused"]["3d_fullres"]
    assert 0 < records[1]["fits"]["3d_fullres"]["share"] <= 1
    table = (tmp_path / "out" / "plans.md").read_text(encoding="utf-8").splitlines()
    assert len(table) == 2 + len(records)
    assert "does not fit 0.0001 GB" in table[2]
    assert "image size" in table[3]
    assert len(capsys.readouterr().out.splitlines()) == len(records)


def test_a_network_without_the_configuration_has_a_line(run, folder, capsys):
    assert run("--networks", "mobile_unetr", "--gpu-memory", "1", "--reserve", "0") == 0
    assert "no 3d_fullres for this network and dataset" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--gpu-memory", "nan"], "must be a positive number"),
        (["--max-dataset-covered", "0"], "at most 1"),
        (["-c", "3d_full"], "There is no configuration '3d_full'"),
        (["--networks", "unet3x"], "nearest: "),
        (["-p", "others"], "There are no plans"),
    ],
)
def test_bad_input_ends_in_one_sentence(run, folder, capsys, arguments, sentence):
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1


def test_a_missing_fingerprint_is_told(run, folder, capsys):
    (folder / "dataset_fingerprint.json").unlink()
    assert run() == 2
    assert "dataset_fingerprint.json" in capsys.readouterr().err
