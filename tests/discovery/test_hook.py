import importlib.util
import os
import pkgutil
import subprocess
import sys
import types
from pathlib import Path

import pytest
from nnunetv2.utilities.find_class_by_name import recursive_find_python_class

from nnunet_ext.discovery import HOOK_VARIABLE, SHIM, folders_after_ours, hook_folder, is_hook


def load_shim():
    spec = importlib.util.spec_from_file_location("nnunet_ext_trainers", hook_folder() / SHIM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def asked(monkeypatch):
    """Names that reached the trainers, which know one name, refuse one kind and disown all others."""
    names = []

    def trainer_class(name):
        names.append(name)
        if name == "nnUNetTrainer_Ours":
            return int
        if name.startswith("nnUNetTrainer_Ours_"):
            raise ValueError("no such word")
        raise AttributeError(name)

    stand_in = types.ModuleType("nnunet_ext.trainers")
    stand_in.trainer_class = trainer_class
    monkeypatch.setitem(sys.modules, "nnunet_ext.trainers", stand_in)
    return names


def test_the_folder_is_a_leaf_with_one_module():
    assert [(m.name, m.ispkg) for m in pkgutil.iter_modules([str(hook_folder())])] == [(Path(SHIM).stem, False)]
    assert hook_folder().is_absolute()
    assert is_hook(str(hook_folder()))
    assert not is_hook(str(hook_folder().parent))


def test_names_are_forwarded(asked):
    shim = load_shim()
    assert shim.nnUNetTrainer_Ours is int
    assert not hasattr(shim, "nnUNetTrainer_Theirs")
    with pytest.raises(ValueError, match="no such word"):
        hasattr(shim, "nnUNetTrainer_Ours_Bad")
    assert asked == ["nnUNetTrainer_Ours", "nnUNetTrainer_Theirs", "nnUNetTrainer_Ours_Bad"]


def test_dunder_names_never_reach_the_trainers(asked):
    with pytest.raises(AttributeError, match="__wrapped__"):
        _ = load_shim().__wrapped__
    assert asked == []


def test_importing_the_shim_imports_neither_torch_nor_the_trainers():
    program = (
        f"import sys; sys.path.insert(0, {str(hook_folder())!r}); import nnunet_ext_trainers as shim\n"
        f"hasattr(shim, '__wrapped__')\n"
        f"assert not [m for m in ('torch', 'nnunetv2', 'nnunet_ext.trainers') if m in sys.modules]"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# --- through nnU-Net's own search


def search(name):
    folder = str(hook_folder())
    return recursive_find_python_class(folder, name, None, base_folder=folder, cleanup_imports_from_base_folder=True)


def test_nnunet_finds_ours_and_goes_on_for_others(asked):
    before = list(sys.path)
    assert search("nnUNetTrainer_Ours") is int
    assert search("nnUNetTrainer_Theirs") is None
    with pytest.raises(ValueError, match="no such word"):
        search("nnUNetTrainer_Ours_Bad")
    assert sys.path == before
    assert "nnunet_ext_trainers" not in sys.modules


def test_a_foreign_name_that_starts_like_ours_is_found_in_either_order(asked, monkeypatch, tmp_path):
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    source = "from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer\n"
    (tmp_path / "theirs.py").write_text(source + "class nnUNetTrainer_Ours_mine(nnUNetTrainer): pass\n")
    monkeypatch.setenv(HOOK_VARIABLE, os.pathsep.join([str(tmp_path), str(hook_folder())]))
    assert recursive_find_trainer_class_by_name("nnUNetTrainer_Ours_mine").__module__ == "theirs"
    assert asked == []
    monkeypatch.setenv(HOOK_VARIABLE, os.pathsep.join([str(hook_folder()), str(tmp_path)]))
    with pytest.warns(UserWarning, match="no such word nnU-Net looks for it in"):
        assert recursive_find_trainer_class_by_name("nnUNetTrainer_Ours_mine").__module__ == "theirs"
    with pytest.raises(RuntimeError), pytest.warns(UserWarning, match="no such word"):
        recursive_find_trainer_class_by_name("nnUNetTrainer_Ours_nobodys")
    monkeypatch.setenv(HOOK_VARIABLE, os.pathsep.join([str(tmp_path), str(hook_folder())]))
    with pytest.raises(ValueError, match="no such word"):
        recursive_find_trainer_class_by_name("nnUNetTrainer_Ours_nobodys")


def test_folders_after_ours(monkeypatch, tmp_path):
    ours, there = str(hook_folder()), str(tmp_path)
    for value, after in {
        "": [],
        ours: [],
        os.pathsep.join([there, ours]): [],
        os.pathsep.join([ours, there, "gone", ""]): [there],
        os.pathsep.join([ours + os.sep, ours, there]): [there],
        there: [],
    }.items():
        monkeypatch.setenv(HOOK_VARIABLE, value)
        assert folders_after_ours() == after, value
