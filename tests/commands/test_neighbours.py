"""Other packages on nnUNet_extTrainer, as folders that are never imported."""

import os

import pytest

from nnunet_ext.commands.neighbours import check_neighbours, trainers
from nnunet_ext.discovery import HOOK_VARIABLE, hook_folder

HOOK = str(hook_folder())
MODULES = {
    "a.py": "import no_such_module\nclass UNETRTrainer_128: ...\nclass Helper: ...\n",
    "b.py": "from a import UNETRTrainer_128 as nnUNetTrainer_UNETR_mine\nnnUNetTrainer_Alias = 1\n",
    "c.py": "from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer\ndef f(:\n",
    "inner/__init__.py": "class NeverSeenTrainer: ...\n",
    "inner/d.py": "class nnUNetTrainer_SwinUNETR_mine: ...\n",
    "no_package/e.py": "class NorThisTrainer: ...\n",
}
FOUND = {"UNETRTrainer_128", "nnUNetTrainer_UNETR_mine", "nnUNetTrainer_Alias", "nnUNetTrainer_SwinUNETR_mine"}


@pytest.fixture
def theirs(tmp_path):
    for name, text in MODULES.items():
        (tmp_path / "theirs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "theirs" / name).write_text(text)
    return tmp_path / "theirs"


def told(monkeypatch, *folders):
    monkeypatch.setenv(HOOK_VARIABLE, os.pathsep.join(map(str, folders)))
    return [(f.level, f.what, f.remedy) for f in check_neighbours()]


def test_trainers_that_nnunet_would_find(theirs):
    assert trainers(theirs) == FOUND


@pytest.mark.parametrize("order", ["first", "last"])
def test_a_neighbour_without_names_of_ours_is_sound(monkeypatch, theirs, order):
    folders = [theirs, HOOK] if order == "first" else [HOOK, theirs]
    ((level, what, _),) = told(monkeypatch, *folders)
    assert level == "ok"
    assert what == f"{HOOK_VARIABLE} also holds {theirs} with 4 trainers; none has a name of ours."


@pytest.mark.parametrize(("order", "winner", "loser"), [("first", "theirs", "ours"), ("last", "our folder", "theirs")])
def test_who_wins_is_said(monkeypatch, theirs, order, winner, loser):
    (theirs / "f.py").write_text("class nnUNetTrainer_UNETR: ...\nclass nnUNetTrainer_SwinUNETR_L_5epochs: ...\n")
    folders = [theirs, HOOK] if order == "first" else [HOOK, theirs]
    ((level, what, remedy),) = told(monkeypatch, *folders)
    assert level == "warning"
    assert "6 trainers; 2 have names of ours (nnUNetTrainer_SwinUNETR_L_5epochs, nnUNetTrainer_UNETR)" in what
    assert f"{winner}, which comes first." in what
    assert f"To train with {loser}, exchange" in remedy


def test_a_neighbour_that_pip_installed_is_named(monkeypatch, tmp_path):
    site = tmp_path / "site"
    folder = site / "segforge" / "training"
    folder.mkdir(parents=True)
    for package in (folder, folder.parent):
        (package / "__init__.py").touch()
    (folder / "unetr.py").write_text("class UNETRTrainer: ...\n")
    info = site / "segforge-0.1.0a2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: segforge\nVersion: 0.1.0a2\n")
    (info / "top_level.txt").write_text("segforge\n")
    monkeypatch.syspath_prepend(str(site))
    ((_, what, _),) = told(monkeypatch, folder, HOOK)
    assert f"{folder} (segforge 0.1.0a2) with 1 trainers" in what


def test_no_neighbours_no_findings(monkeypatch, tmp_path):
    assert told(monkeypatch, HOOK, tmp_path / "gone") == []
    monkeypatch.delenv(HOOK_VARIABLE)
    assert list(check_neighbours()) == []
