"""What surrounds a conversion: the terminal, the bytes of a path, the variables, other conversions."""

import csv
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from dataset_conversion.brats import work
from dataset_conversion.commands.restore import main as restore
from tests.dataset_conversion.test_convert import SCRIPT, names

DATASET = "Dataset501_BraTS2018"
ODD = os.fsdecode(b"caf\xe9 \xff")  # no UTF-8


@pytest.mark.skipif(sys.platform == "darwin", reason="file names are Unicode there")
@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "ascii"])
def test_a_path_that_is_not_text_and_a_narrow_terminal(encoding: str, tree: Any, raw: Path, tmp_path: Path) -> None:
    source = tree().rename(tmp_path / ODD)
    (source / "漢.nii.gz").touch()
    (source / "漢.zip").touch()
    command = [sys.executable, str(SCRIPT), str(source), "--dataset-id", "501"]
    for words in ("3 cases in imagesTr", "is complete"):
        environment = {**os.environ, "PYTHONIOENCODING": encoding, "LC_ALL": "C.UTF-8"}
        done = subprocess.run(command, env=environment, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        assert words.encode() in done.stdout
    with (raw / DATASET / "cases.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        assert Path(next(csv.DictReader(file))["source"]).is_relative_to(source)
    assert json.loads((raw / DATASET / "dataset.json").read_text())["numTraining"] == 3


@pytest.mark.skipif(sys.platform == "darwin", reason="file names are Unicode there")
def test_a_case_whose_name_is_not_text_is_told(tree: Any, convert: Any, raw: Path, capsys: Any) -> None:
    source = tree()
    for path in list(source.rglob("Brats18_P02_2_1_*")):
        path.rename(path.with_name(path.name.replace("P02", os.fsdecode(b"P\xff"))))
    folder = next(source.rglob("Brats18_P02_2_1"))
    folder.rename(folder.with_name("renamed"))
    assert convert(source) == 1
    assert "has a name that is no text; rename its files" in capsys.readouterr().out
    assert convert(source, "--skip-bad") == 0
    assert len(names(raw / DATASET / "labelsTr")) == 2


def test_nobody_reads_to_the_end(tree: Any, raw: Path) -> None:
    command = [sys.executable, str(SCRIPT), str(tree()), "--dataset-id", "501"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout
    process.stdout.close()
    _, said = process.communicate()
    assert process.returncode == 0, said
    assert (raw / DATASET / "dataset.json").is_file()


@pytest.mark.parametrize("name", ["nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"])
@pytest.mark.parametrize(
    ("form", "hint"),
    [('"{}"', "quotes included"), ("'{}'", "quotes included"), ("data", "absolute"), ("~/x", "absolute")],
)
def test_a_variable_that_nnunet_would_take_for_another_folder_is_refused(
    name: str, form: str, hint: str, tree: Any, convert: Any, raw: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tree()
    monkeypatch.setenv(name, form.format(raw.parent / name))
    assert convert(source) == 2
    message = capsys.readouterr().err
    assert f"{name} is " in message
    assert hint in message
    assert not raw.exists()


# --- several at once


def test_while_one_converts_the_others_say_so(
    tree: Any, convert: Any, raw: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tree()
    inside, go_on = threading.Event(), threading.Event()
    audit = work.Auditor.__call__

    def slow(self: work.Auditor, case: Any) -> Any:
        inside.set()
        assert go_on.wait(60)
        return audit(self, case)

    monkeypatch.setattr(work.Auditor, "__call__", slow)
    codes = []
    first = threading.Thread(target=lambda: codes.append(convert(source)))
    first.start()
    assert inside.wait(60)
    assert [convert(source), convert(source)] == [2, 2]
    assert capsys.readouterr().err.count("Another conversion is writing") == 2
    go_on.set()
    first.join()
    assert codes == [0]
    assert names(raw) == {DATASET}, "no lock is left"
    assert convert(source) == 0


def test_three_processes_make_one_dataset(tree: Any, raw: Path) -> None:
    source = tree()
    command = [sys.executable, str(SCRIPT), str(source), "--dataset-id", "501", "--jobs", "1"]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    ended = [(process.communicate(), process.returncode) for process in started]
    assert sorted({code for _, code in ended}) in ([0], [0, 2])
    for (_, said), code in ended:
        assert "Traceback" not in said
        assert ("Another conversion is writing" in said) == (code == 2)
    assert len(names(raw / DATASET / "imagesTr")) == 12
    assert names(raw) == {DATASET}


def test_a_lock_of_a_process_that_was_killed_is_no_obstacle(tree: Any, convert: Any, raw: Path) -> None:
    raw.mkdir()
    (raw / f".{DATASET}.lock").touch()
    assert convert(tree()) == 0


# --- restoring


def test_shadows_of_macos_are_no_predictions(tree: Any, convert: Any, raw: Path, tmp_path: Path) -> None:
    assert convert(tree()) == 0
    predictions = shutil.copytree(raw / DATASET / "labelsTr", tmp_path / "predictions")
    (predictions / "._Brats18_P01_1_1.nii.gz").write_bytes(b"shadow")
    assert restore([str(predictions), str(tmp_path / "out")]) == 0
    assert len(names(tmp_path / "out")) == 3


# --- datasets of earlier versions


def test_a_dataset_that_an_earlier_audit_passed_is_looked_at_again(
    tree: Any, convert: Any, raw: Path, capsys: Any
) -> None:
    source = tree()
    assert convert(source) == 0
    record = raw / DATASET / "conversion.json"
    stored = json.loads(record.read_text())
    del stored["audit"], stored["written"]
    for report in stored["reports"].values():
        for key in ("warnings", "scans", "grid"):
            del report[key]
    record.write_text(json.dumps(stored))
    assert convert(source) == 0
    said = capsys.readouterr()
    assert "is complete" in said.out
    assert "audit: 100%" in said.err
    assert json.loads(record.read_text())["audit"] == 2
