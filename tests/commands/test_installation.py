"""Each kind of trouble with the installed packages, made in a folder of its own that is put on Python's path."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from nnunet_ext.commands import installation
from nnunet_ext.commands.installation import TRAINER
from nnunet_ext.discovery import HOOK_VARIABLE, SHIM, hook_folder

OURS = Path(installation.__file__).parents[2]
HOOK = str(hook_folder())


def install(site: Path, name: str, version: str, package: str | None = None, requires: str = "") -> None:
    """What pip leaves in ``site`` of a distribution that provides ``package``."""
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    requirement = f"Requires-Dist: {requires}\n" if requires else ""
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requirement}")
    if package is not None:
        (info / "top_level.txt").write_text(f"{package}\n")
        folder(site, package)


def folder(site: Path, package: str) -> Path:
    (site / package).mkdir(parents=True, exist_ok=True)
    (site / package / "__init__.py").touch()
    return (site / package).resolve()


def findings(check: str, cwd: Path, *first: Path) -> list[list[str]]:
    """What the check says in a new process with the folders ``first`` at the head of its path, without ``cwd``."""
    program = f"""
        import dataclasses, json
        from nnunet_ext.commands import installation
        print(json.dumps([dataclasses.astuple(f) for f in installation.{check}()]))
    """
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, first))}
    run = [sys.executable, "-P", "-c", textwrap.dedent(program)]
    done = subprocess.run(run, cwd=cwd, env=environ, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def troubles(found) -> list[str]:
    return [what for level, what, _ in found if level != "ok"]


# --- the packages


def test_a_sound_installation_is_told_with_version_and_folder(tmp_path):
    found = findings("check_packages", tmp_path)
    assert [level for level, _, _ in found] == ["ok", "ok"]
    assert found[0][1].startswith("nnunetv2 2.8")
    assert found[1][1].endswith(str(OURS / "nnunet_ext"))


def test_another_distribution_with_the_same_package_in_the_same_folder(tmp_path):
    site = tmp_path / "site"
    install(site, "nnunetv2", "2.8.1", "nnunetv2")
    install(site, "umamba-fork", "1.0", "nnunetv2")
    found = findings("check_packages", tmp_path, site)
    (level, what, remedy) = next(f for f in found if "goes by the name" in f[1])
    assert level == "error"
    assert "umamba-fork 1.0" in what
    assert "pip uninstall umamba-fork nnunetv2" in remedy


@pytest.mark.parametrize("name", ["nnunet_ext", "lifelong-nnunet"])
def test_another_project_of_our_name(tmp_path, name):
    site = tmp_path / "lifelong"
    install(site, name, "0.0.0", "nnunet_ext")
    said = troubles(findings("check_packages", tmp_path, OURS, site))
    assert any("nnunet_ext is installed 2 times" in what and f"{name} 0.0.0" in what for what in said)
    assert any("goes by the name" in what for what in said) == (name == "lifelong-nnunet")


def test_a_second_copy_of_nnunet_of_another_version(tmp_path):
    site = tmp_path / "umamba"
    install(site, "nnunetv2", "2.1.1", "nnunetv2")
    assert any("nnunetv2 is installed 2 times" in what for what in troubles(findings("check_packages", tmp_path, site)))
    (what,) = troubles(findings("check_requirements", tmp_path, site))
    assert what.startswith("nnunet_ext needs nnunetv2")
    assert what.endswith("nnunetv2 2.1.1 is installed.")


def test_a_folder_on_the_path_that_hides_the_installed_package(tmp_path):
    hiding = folder(tmp_path / "clone", "nnunetv2")
    ((what, remedy),) = [f[1:] for f in findings("check_packages", tmp_path, tmp_path / "clone") if f[0] == "error"]
    assert what.startswith(f"nnunetv2 is imported from {hiding}, which pip did not install; it hides nnunetv2 2.8")
    assert f"take {hiding.parent} off PYTHONPATH" in remedy


def test_a_folder_here_that_hides_the_installed_package_from_python_m(tmp_path):
    hiding = folder(tmp_path, "nnunetv2")
    ((level, what, _),) = [f for f in findings("check_packages", tmp_path) if f[0] != "ok"]
    assert level == "warning"
    assert what == f"The folder {hiding} hides the installed nnunetv2 from python -m and python -c."


def test_a_package_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(installation, "find_spec", lambda name: None)
    assert [f.what for f in installation.check_packages()] == [
        "nnunetv2 is not installed.",
        "nnunet_ext is not installed.",
    ]


def test_an_editable_install_is_in_its_source_folder(tmp_path):
    install(tmp_path, "nnunetv2", "2.8.0", "nnunetv2")
    info = tmp_path / "nnunetv2-2.8.0.dist-info"
    source = folder(tmp_path / "my source" / "src", "nnunetv2").parent.parent
    (info / "direct_url.json").write_text(json.dumps({"url": source.as_uri(), "dir_info": {"editable": True}}))
    distribution = installation.metadata.Distribution.at(info)
    assert installation._folder(distribution, "nnunetv2") == source / "src" / "nnunetv2"


# --- what they require


def test_all_requirements_of_this_environment_are_met(tmp_path):
    assert findings("check_requirements", tmp_path) == []


def test_torch_2_9_is_excluded(tmp_path):
    install(tmp_path / "site", "torch", "2.9.1+cu128")
    said = troubles(findings("check_requirements", tmp_path, tmp_path / "site"))
    assert any(what.startswith("nnunetv2 needs torch!=2.9.*") and "torch 2.9.1+cu128 is" in what for what in said)


def test_a_requirement_that_is_not_installed(tmp_path):
    install(tmp_path / "site", "nnunetv2", "2.8.1", requires="no-such-distribution>=3")
    ((level, what, remedy),) = findings("check_requirements", tmp_path, tmp_path / "site")
    assert level == "error"
    assert what == "nnunetv2 needs no-such-distribution>=3, which is not installed."
    assert remedy == 'Run pip install "no-such-distribution>=3".'


def test_requirements_of_extras_are_nobodys(tmp_path):
    install(tmp_path / "site", "nnunetv2", "2.8.1", requires='no-such-distribution; extra == "dev"')
    assert findings("check_requirements", tmp_path, tmp_path / "site") == []


# --- the variable nnUNet_extTrainer


def hook_findings(monkeypatch, *folders: str) -> list[tuple[str, str]]:
    monkeypatch.setenv(HOOK_VARIABLE, os.pathsep.join(folders))
    return [(f.level, f.what) for f in installation.check_hook()]


def test_the_hook_is_found_however_it_is_spelt(monkeypatch, tmp_path):
    (tmp_path / "link").symlink_to(HOOK, target_is_directory=True)
    (tmp_path / "other").mkdir()
    sound = [("ok", f"{HOOK_VARIABLE} holds {HOOK}")]
    for spelling in (HOOK, HOOK + os.sep, str(tmp_path / "link")):
        assert hook_findings(monkeypatch, str(tmp_path / "other"), spelling) == sound


def test_a_variable_that_is_not_set_or_lacks_the_hook(monkeypatch, tmp_path):
    assert [level for level, _ in hook_findings(monkeypatch, str(tmp_path))] == ["error"]
    monkeypatch.delenv(HOOK_VARIABLE)
    (missing,) = installation.check_hook()
    assert missing.level == "error"
    assert "nnunet_ext env" in missing.remedy


def test_the_hook_of_another_installation(monkeypatch, tmp_path):
    (tmp_path / SHIM).touch()
    (_, (level, what)) = hook_findings(monkeypatch, HOOK, str(tmp_path))
    assert (level, what) == ("warning", f"{HOOK_VARIABLE} holds {tmp_path}, of another installation of this package.")


def test_an_entry_that_does_not_exist(monkeypatch, tmp_path):
    (_, (level, what)) = hook_findings(monkeypatch, HOOK, str(tmp_path / "gone"))
    assert level == "warning"
    assert "does not exist" in what


@pytest.mark.parametrize("inner", [OURS, OURS / "nnunet_ext", OURS / "nnunet_ext" / "trainers"], ids=lambda p: p.name)
def test_an_entry_that_makes_nnunet_import_the_package_itself(monkeypatch, inner):
    (_, (level, what)) = hook_findings(monkeypatch, HOOK, str(inner))
    assert level == "error"
    assert "imports every module in it" in what


@pytest.mark.parametrize("modules", [[], [SHIM, "more.py"]], ids=["none", "more"])
def test_a_hook_with_other_modules_than_the_shim(monkeypatch, tmp_path, modules):
    for module in modules:
        (tmp_path / module).touch()
    monkeypatch.setattr(installation, "hook_folder", lambda: tmp_path)
    (found,) = [f for f in installation.check_hook() if "holds the modules" in f.what]
    assert found.level == "error"


# --- nnU-Net's own search


def trainer_findings(monkeypatch, *folders: str) -> list[tuple[str, str]]:
    monkeypatch.setenv(HOOK_VARIABLE, os.pathsep.join(folders))
    return [(f.level, f.what) for f in installation.check_trainer()]


def test_nnunet_finds_our_trainer_and_its_chatter_is_not_shown(monkeypatch, capsys):
    assert trainer_findings(monkeypatch, HOOK) == [("ok", f"nnU-Net finds {TRAINER}")]
    assert capsys.readouterr().out == ""


def test_nnunet_does_not_find_our_trainer(monkeypatch, tmp_path):
    ((level, what),) = trainer_findings(monkeypatch, str(tmp_path))
    assert level == "error"
    assert "RuntimeError: Could not find requested" in what


def test_a_foreign_module_that_cannot_be_imported(monkeypatch, tmp_path):
    (tmp_path / "broken.py").write_text("import no_such_module_at_all\n")
    ((level, what),) = trainer_findings(monkeypatch, str(tmp_path), HOOK)
    assert level == "error"
    assert "ModuleNotFoundError: No module named 'no_such_module_at_all'" in what


def test_a_foreign_trainer_of_our_name(monkeypatch, tmp_path):
    source = "from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer\n"
    (tmp_path / "theirs.py").write_text(source + f"class {TRAINER}(nnUNetTrainer): pass\n")
    ((level, what),) = trainer_findings(monkeypatch, str(tmp_path), HOOK)
    assert level == "error"
    assert "from the module theirs" in what
