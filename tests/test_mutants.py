"""The table of planted faults is up to date; ``make mutants`` plants them."""

import json
import re
from dataclasses import replace

import pytest

from benchmarks import record
from tests import mutants

AREAS = (
    "nnunet_ext/networks/",
    "nnunet_ext/trainers/",
    "nnunet_ext/coordinates/",
    "nnunet_ext/cascade/",
    "nnunet_ext/profiling/",
    "nnunet_ext/planning/",
    "dataset_conversion/",
)
TABLE = mutants.load()
FAULT = TABLE[0]


def repository(tmp_path, text=FAULT.old):
    path = tmp_path / FAULT.file
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("mutant", TABLE, ids=lambda m: f"{m.file}: {m.why}")
def test_each_fault_can_be_planted_and_names_tests_that_exist(mutant):
    text = (mutants.ROOT / mutant.file).read_text(encoding="utf-8")
    assert text.count(mutant.old) == 1, "renew the entry in tests/mutants.json"
    assert mutant.new != mutant.old
    assert mutant.tests
    for test in mutant.tests:
        file, _, function = test.partition("::")
        name = function.partition("[")[0]
        assert re.search(rf"^def {name}\(" if name else "", (mutants.ROOT / file).read_text(encoding="utf-8"), re.M), (
            test
        )


def test_there_are_many_in_every_area():
    assert len(TABLE) >= 40
    assert len({(m.file, m.old, m.new) for m in TABLE}) == len(TABLE)
    for area in AREAS:
        assert sum(m.file.startswith(area) for m in TABLE) >= 4, area


def test_the_results_are_of_this_table():
    found = json.loads((record.RESULTS / "mutants.json").read_text(encoding="utf-8"))
    assert [(r["file"], r["old"], r["new"]) for r in found["rows"]] == [(m.file, m.old, m.new) for m in TABLE]
    assert {r["verdict"] for r in found["rows"]} == {"caught"}
    assert found["commit"]
    assert mutants.table(found["rows"]) in (record.RESULTS / "mutants.md").read_text(encoding="utf-8")


def test_a_fault_is_planted_once(tmp_path):
    path = repository(tmp_path, f"before {FAULT.old} after")
    FAULT.plant(tmp_path)
    assert path.read_text(encoding="utf-8") == f"before {FAULT.new} after"


@pytest.mark.parametrize(("text", "count"), [("", 0), (2 * FAULT.old, 2)])
def test_a_table_out_of_date_is_told(tmp_path, text, count):
    repository(tmp_path, text)
    with pytest.raises(ValueError, match=f"occurs {count} times in {FAULT.file}"):
        FAULT.plant(tmp_path)


@pytest.mark.parametrize(("body", "verdict"), [("1 == 1", "missed"), ("1 == 2", "caught"), ("(", "broken")])
def test_what_pytest_says_is_the_verdict(tmp_path, monkeypatch, body, verdict):
    test = repository(tmp_path / "clone").with_name("test_it.py")
    test.write_text(f"def test_it():\n    assert {body}\n", encoding="utf-8")

    def copy(target):
        mutants.shutil.copytree(tmp_path / "clone", target, dirs_exist_ok=True)

    monkeypatch.setattr(mutants, "copy", copy)
    name = test.relative_to(tmp_path / "clone").as_posix()
    outcome = mutants.examine((name,), replace(FAULT, tests=(name,)))
    assert outcome.verdict == verdict
    assert outcome.failed == {"caught": (f"{name}::test_it",), "missed": (), "broken": (name,)}[verdict]


def test_a_test_that_fails_anyway_catches_nothing(monkeypatch):
    def examine(tests, mutant=None):
        return mutants.Outcome(1, tuple(t for t in tests if "broken" in t or (mutant and mutant.why == "seen")), "")

    monkeypatch.setattr(mutants, "examine", examine)
    faults = [mutants.Mutant("a.py", "a", "b", (test,), why) for test, why in [("t1", "seen"), ("broken", "unseen")]]
    assert [row["verdict"] for row in mutants.run(faults, 2)] == ["caught", "fails anyway"]
