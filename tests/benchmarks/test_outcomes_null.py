import json
import sys

import pytest

from benchmarks import outcomes_null, record
from benchmarks.outcomes_null import COLUMNS, Scenario, experiment


@pytest.mark.parametrize("column", COLUMNS[:3], ids=lambda c: c.name)
def test_what_the_features_say_is_claimed(column):
    assert experiment(Scenario(column, 120, 0.8), 0) == (True, True)


def test_few_cases_claim_nothing():
    for seed in range(5):
        claimed, _ = experiment(Scenario(COLUMNS[0], 20, 0.8), seed)
        assert not claimed


def test_the_command_writes_and_judges(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(outcomes_null, "SCENARIOS", (Scenario(COLUMNS[2], 40), Scenario(COLUMNS[2], 40, 0.9)))
    monkeypatch.setattr(sys, "argv", ["outcomes_null.py", "--experiments", "2", "--jobs", "1", "--out", str(tmp_path)])
    monkeypatch.setattr(outcomes_null, "TOLERATED", -1)
    assert outcomes_null.main() == 1
    rows = json.loads((tmp_path / "outcomes_null.json").read_text())["rows"]
    assert [row["explained"] for row in rows] == [0, 0.9]
    assert (tmp_path / "outcomes_null.md").read_text() == capsys.readouterr().out


def test_permuted_targets_claim_something_in_at_most_five_per_cent():
    rows = json.loads((record.RESULTS / "outcomes_null.json").read_text(encoding="utf-8"))["rows"]
    assert len(rows) == len(outcomes_null.SCENARIOS)
    assert all(row["claims"] <= outcomes_null.TOLERATED for row in rows if not row["explained"])
    assert all(row["experiments"] >= 100 for row in rows if not row["explained"])
