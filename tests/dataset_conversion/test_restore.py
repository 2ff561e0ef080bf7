import gzip
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from dataset_conversion.commands.restore import main
from tests.dataset_conversion.test_convert import SCRIPT, names, voxels


@pytest.fixture
def predictions(tree: Any, convert: Any, raw: Path) -> Any:
    """Label maps of a converted tree, which a perfect network would predict; with the edition's own beside them."""

    def make(edition: str) -> tuple[Path, dict[str, Path]]:
        source = tree(edition)
        assert convert(source) == 0
        folder = raw / f"Dataset501_BraTS{edition}" / "labelsTr"
        files = {path.name.replace("_seg", "").replace("-seg", ""): path for path in source.rglob("*seg.nii.gz")}
        return folder, files

    return make


@pytest.mark.parametrize("edition", ["2018", "2019", "2020", "2021", "2023"])
@pytest.mark.parametrize("told", ["by the names", "--edition", "--dataset"])
def test_labels_come_back_to_the_bit(edition: str, told: str, predictions: Any, tmp_path: Path) -> None:
    folder, originals = predictions(edition)
    (folder / "summary.json").touch()
    options = {"--edition": ["--edition", edition], "--dataset": ["--dataset", str(folder.parent)]}.get(told, [])
    assert main([str(folder), str(tmp_path / "out"), *options]) == 0
    assert names(tmp_path / "out") == originals.keys()
    for name, original in originals.items():
        before, after = nib.load(original), nib.load(tmp_path / "out" / name)
        np.testing.assert_array_equal(voxels(tmp_path / "out" / name), voxels(original))
        assert before.header["sform_code"] == after.header["sform_code"]
        np.testing.assert_array_equal(before.affine, after.affine)
        assert before.header.get_data_dtype() == after.header.get_data_dtype()


def test_what_is_no_prediction_is_listed_and_nothing_written(predictions: Any, tmp_path: Path, capsys: Any) -> None:
    folder, originals = predictions("2018")
    shutil.copy(originals["Brats18_P01_1_1.nii.gz"], folder / "Brats18_P01_1_1.nii.gz")
    (folder / "Brats18_P02_2_1.nii.gz").write_bytes(b"broken")
    assert main([str(folder), str(tmp_path / "out")]) == 1
    output = capsys.readouterr().out
    assert "Brats18_P01_1_1.nii.gz has the label 4, expected only 0, 1, 2, 3" in output
    assert "Brats18_P02_2_1.nii.gz is no gzip data" in output
    assert "Nothing was written." in output
    assert not (tmp_path / "out").exists()


def test_calls_without_sense_are_explained(predictions: Any, tmp_path: Path, capsys: Any) -> None:
    folder, _ = predictions("2018")
    (tmp_path / "empty").mkdir()
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "dataset.json").write_text(json.dumps({"labels": {}}))
    (tmp_path / "unnamed").mkdir()
    (tmp_path / "unnamed" / "patient.nii.gz").write_bytes(gzip.compress(b""))
    calls = {
        (str(folder), str(folder)): "OUT is PRED",
        (str(tmp_path / "empty"), str(tmp_path / "out")): "holds no .nii.gz or .nii file",
        (str(folder), str(tmp_path / "out"), "--edition", "2016"): "'2016' is unknown; give one of BraTS2017",
        (str(folder), str(tmp_path / "out"), "--dataset", str(tmp_path / "foreign")): "give --edition instead",
        (str(tmp_path / "unnamed"), str(tmp_path / "out")): "patient, do not tell one edition; give --edition",
    }
    for call, message in calls.items():
        assert main(call) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_script_runs_from_any_folder(predictions: Any, tmp_path: Path) -> None:
    folder, originals = predictions("2021")
    command = [sys.executable, str(SCRIPT.with_name("restore_brats_labels.py")), str(folder), "restored"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert names(tmp_path / "restored") == originals.keys()
