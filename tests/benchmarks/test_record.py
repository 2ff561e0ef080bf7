"""What all files of results have in common."""

import json
import subprocess

import pytest

from benchmarks import record


def git(folder, *words):
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    return subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A repository with one commit."""
    monkeypatch.setattr(record, "ROOT", tmp_path)
    git(tmp_path, "init", "-q")
    for name in ("a.py", "benchmarks/results/a.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "one")
    return tmp_path


def test_the_commit_says_whether_sources_have_changed_since(clone):
    head = git(clone, "rev-parse", "HEAD")
    assert record.commit() == head
    (clone / "benchmarks" / "results" / "a.json").write_text("2")
    (clone / "new.txt").write_text("2")
    assert record.commit() == head, "results and files that git does not know are no sources"
    (clone / "a.py").write_text("2")
    assert record.commit() == f"{head}+"


def test_outside_a_clone_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "ROOT", tmp_path)
    assert record.commit() is None


def test_the_command_can_be_typed_again_and_names_no_folder_of_the_machine(monkeypatch, tmp_path):
    script = str(record.ROOT / "benchmarks" / "pam.py")
    monkeypatch.setattr(record.sys, "argv", [script, "--out", str(tmp_path / "my results"), "--models", "all"])
    assert record.command() == "python benchmarks/pam.py --out 'my results' --models all"


def test_json_holds_the_rows_and_what_made_them(tmp_path):
    record.write_json(tmp_path / "a.json", [{"a": 1}], patch=[2])
    found = json.loads((tmp_path / "a.json").read_text())
    assert (found["rows"], found["patch"]) == ([{"a": 1}], [2])
    assert set(record.PACKAGES) < set(found["versions"])
    assert found["threads"] >= 1
    assert found["hardware"]["machine"]


def test_columns_are_aligned():
    lines = record.markdown(["name", "n"], [["a", "10"], ["long name", "1"]]).splitlines()
    assert lines == ["| name      |  n |", "| --------- | -: |", "| a         | 10 |", "| long name |  1 |"]
