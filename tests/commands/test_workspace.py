import json
from pathlib import Path

import pytest

from nnunet_ext.commands.env import FOLDER_VARIABLES
from nnunet_ext.commands.workspace import WORKERS_VARIABLE, check_clipping, check_folders, check_workers

READ_ONLY = Path("/proc")  # not even the superuser makes a file there


@pytest.fixture
def folders(monkeypatch, tmp_path):
    """nnU-Net's three folders, set and there."""
    made = {name: tmp_path / name for name in FOLDER_VARIABLES}
    for name, folder in made.items():
        folder.mkdir()
        monkeypatch.setenv(name, str(folder))
    return made


def told(check) -> list[tuple[str, str]]:
    return [(f.level, f.what) for f in check()]


def test_sound_folders(folders):
    assert told(check_folders) == [("ok", f"{name} is {folder}") for name, folder in folders.items()]
    assert [list(folder.iterdir()) for folder in folders.values()] == [[], [], []]


@pytest.mark.parametrize("name", FOLDER_VARIABLES)
def test_a_folder_that_is_not_set(monkeypatch, folders, name):
    monkeypatch.delenv(name)
    assert ("error", f"{name} is not set.") in told(check_folders)
    monkeypatch.setenv(name, "")
    assert ("error", f"{name} is not set.") in told(check_folders)


def test_a_folder_that_is_not_absolute(monkeypatch, folders):
    monkeypatch.setenv("nnUNet_results", "results")
    assert told(check_folders)[2] == (
        "error",
        "nnUNet_results is 'results', another folder for every folder you work in.",
    )


@pytest.mark.parametrize("quote", ["'", '"'])
def test_a_folder_in_quotes(monkeypatch, folders, quote):
    value = f"{quote}{folders['nnUNet_raw']}{quote}"
    monkeypatch.setenv("nnUNet_raw", value)
    assert told(check_folders)[0] == ("error", f"nnUNet_raw is {value}, quotes included.")


def test_a_folder_that_is_a_file(monkeypatch, folders, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "file"))
    assert told(check_folders)[2] == ("error", f"nnUNet_results is {tmp_path / 'file'}, which is not a folder.")


def test_a_folder_that_can_still_be_made(monkeypatch, folders, tmp_path):
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "a" / "b"))
    assert told(check_folders)[2] == (
        "warning",
        f"nnUNet_results is {tmp_path / 'a' / 'b'}, which does not exist yet.",
    )
    assert not (tmp_path / "a").exists()


@pytest.mark.skipif(not READ_ONLY.is_dir(), reason="Linux alone has this folder in which nobody can write")
def test_folders_that_cannot_be_written(monkeypatch, folders):
    for name in FOLDER_VARIABLES:
        monkeypatch.setenv(name, str(READ_ONLY))
    found = told(check_folders)
    assert [level for level, _ in found] == ["warning", "error", "error"]
    assert all("cannot be written" in what for _, what in found)
    monkeypatch.setenv("nnUNet_raw", str(READ_ONLY / "a" / "b"))
    level, what = told(check_folders)[0]
    assert level == "error"
    assert f"does not exist, and {READ_ONLY}: " in what


@pytest.mark.parametrize(
    ("value", "levels"), [(None, []), ("4", []), ("0", ["warning"]), ("-1", ["error"]), ("many", ["error"])]
)
def test_numbers_of_workers(monkeypatch, value, levels):
    monkeypatch.delenv(WORKERS_VARIABLE, raising=False)
    if value is not None:
        monkeypatch.setenv(WORKERS_VARIABLE, value)
    assert [level for level, _ in told(check_workers)] == levels


def dataset(raw: Path, name: str, text: str) -> None:
    (raw / name).mkdir()
    (raw / name / "dataset.json").write_text(text)


def test_clipped_datasets_are_named_with_the_way_their_inputs_take(folders):
    raw = folders["nnUNet_raw"]
    dataset(raw, "Dataset501_BraTS2018", json.dumps({"clip_percentiles": [0.5, 99.5]}))
    dataset(raw, "Dataset502_Plain", json.dumps({"clip_percentiles": None}))
    dataset(raw, "Dataset503_Stock", "{}")
    (found,) = check_clipping()
    assert found.level == "warning"
    assert "Dataset501_BraTS2018 were clipped to their percentiles [0.5, 99.5]" in found.what
    assert "--like Dataset501_BraTS2018" in found.remedy


def test_a_model_trained_on_clipped_images_is_named_where_its_raw_data_are_not(folders):
    model = folders["nnUNet_results"] / "Dataset501_BraTS2018" / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    model.mkdir(parents=True)
    (model / "dataset.json").write_text(json.dumps({"clip_percentiles": [1, 99]}))
    (found,) = check_clipping()
    assert found.remedy.endswith(f"--like {model}.")


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_dataset_json_that_cannot_be_read(folders, text):
    dataset(folders["nnUNet_raw"], "Dataset504_Broken", text)
    ((level, what),) = told(check_clipping)
    assert level == "warning"
    assert "dataset.json cannot be read" in what


def test_no_raw_folder_no_datasets(monkeypatch, tmp_path):
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "gone"))
    assert told(check_clipping) == []
    monkeypatch.delenv("nnUNet_raw")
    assert told(check_clipping) == []
