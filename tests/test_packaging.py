"""The wheel holds all that the checkout has, and works where there is no checkout."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from nnunet_ext.discovery import HOOK_VARIABLE

ROOT = Path(__file__).parents[1]
SOURCES = ("setup.py", "pyproject.toml", "README.md", "LICENSE")
TRAINER = "nnUNetTrainer_DualBranchGhost_XS_2epochs"


def run(*arguments: str, cwd: Path, **environ: str) -> str:
    """What a new Python prints in ``cwd``, which is not on its path."""
    full = {name: value for name, value in os.environ.items() if not name.startswith("nnUNet_")} | environ
    command = [sys.executable, "-P", *arguments]
    done = subprocess.run(command, cwd=cwd, env=full, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of what a wheel is built from, as building writes into its folder."""
    folder = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "nnunet_ext", folder / "nnunet_ext", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    target = tmp_path_factory.mktemp("wheel")
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    run("-m", "pip", "wheel", *offline, "--wheel-dir", str(target), str(source), cwd=target)
    (built,) = target.glob("nnunet_ext-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder with the wheel in it, to be put on Python's path before the checkout."""
    site = tmp_path_factory.mktemp("site")
    run("-m", "pip", "install", "--no-deps", "--no-index", "--target", str(site), str(wheel), cwd=site)
    return site


def test_the_wheel_holds_every_file_of_the_package(source, wheel):
    files = {path.relative_to(source).as_posix() for path in (source / "nnunet_ext").rglob("*") if path.is_file()}
    packed = set(zipfile.ZipFile(wheel).namelist())
    assert "nnunet_ext/discovery/hook/nnunet_ext_trainers.py" in packed
    assert "nnunet_ext/py.typed" in packed
    assert files - packed == set()
    assert {name for name in packed if ".dist-info/" not in name} - files == set()


def test_importing_setup_does_nothing(source):
    before = sorted(source.rglob("*"))
    assert run("-B", "-c", "import sys; sys.path.insert(0, '.'); import setup", cwd=source) == ""
    assert sorted(source.rglob("*")) == before


def test_env_of_the_wheel_names_its_own_hook(installed, tmp_path):
    printed = run("-m", "nnunet_ext", "env", "--shell", "powershell", cwd=tmp_path, PYTHONPATH=str(installed))
    hook = installed / "nnunet_ext" / "discovery" / "hook"
    assert printed == f"$env:{HOOK_VARIABLE} = '{hook}'\n"
    assert [path.name for path in hook.glob("*.py")] == ["nnunet_ext_trainers.py"]


def test_nnunet_finds_the_trainers_of_the_wheel(installed, tmp_path):
    program = (
        "import sys\n"
        "from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name\n"
        f"trainer = recursive_find_trainer_class_by_name({TRAINER!r})\n"
        "print(sys.modules['nnunet_ext'].__file__)\n"
    )
    hook = installed / "nnunet_ext" / "discovery" / "hook"
    environ = {"PYTHONPATH": str(installed), HOOK_VARIABLE: str(hook)}
    printed = run("-c", program, cwd=tmp_path, **environ)
    assert printed.splitlines()[-1] == str(installed / "nnunet_ext" / "__init__.py")
