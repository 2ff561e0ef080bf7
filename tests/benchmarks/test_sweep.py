"""The benchmark of a whole sweep: its file, its judgement, its table; tests/integration has a small sweep."""

import pytest

from benchmarks import sweep
from nnunet_ext.experiments.file import parse_yaml, sweep_of

UNDISTURBED = {"what": "undisturbed", "exit code": 0, "seconds": 60.0, "runs": 18, "started": 18, "missing files": []}
KILLED = {**UNDISTURBED, "what": "killed", "started": 10, "finished at the kill": 6, "untouched": True, "same": True}


def test_its_file_is_a_sweep():
    found = sweep_of(parse_yaml(sweep.yaml_of(sweep.NETWORKS, 2, 2), "x"))
    assert (found.trainers, found.seeds, found.folds) == (sweep.NETWORKS, (1, 2), (0, 1))
    assert found.words == {"*": sweep.WORDS}


@pytest.mark.parametrize(
    ("row", "change", "right"),
    [
        (UNDISTURBED, {}, True),
        (UNDISTURBED, {"exit code": 1}, False),
        (UNDISTURBED, {"runs": 17}, False),
        (UNDISTURBED, {"started": 17}, False),
        (UNDISTURBED, {"missing files": ["runs.csv"]}, False),
        (KILLED, {}, True),
        (KILLED, {"same": False}, False),
        (KILLED, {"untouched": False}, False),
        (KILLED, {"started": 13}, False),
        (KILLED, {"started": 12}, True),
        (KILLED, {"exit code": 75}, False),
    ],
)
def test_what_is_as_it_should_be(row, change, right):
    assert sweep._right({**row, **change}, 18) == right


def test_what_is_finished_and_what_it_holds(tmp_path):
    model = tmp_path / "A__P__C"
    for fold in (0, 1):
        (model / f"fold_{fold}" / "validation").mkdir(parents=True)
        (model / f"fold_{fold}" / "checkpoint_final.pth").write_bytes(b"weights")
    (model / "fold_1" / "validation" / "summary.json").write_text("{}")
    assert sweep.finished(tmp_path) == [model / "fold_1"]
    before = sweep.untouched(sweep.finished(tmp_path))
    assert sweep.untouched(sweep.finished(tmp_path)) == before
    (model / "fold_1" / "checkpoint_final.pth").write_bytes(b"Weights")
    assert sweep.untouched(sweep.finished(tmp_path)) != before


def test_the_table():
    lines = sweep.table([UNDISTURBED, {**KILLED, "same": False}]).splitlines()
    assert [cell.strip() for cell in lines[2].split("|")[1:-1]] == [
        "undisturbed",
        "18",
        "18",
        "",
        "as reference",
        "1.0",
    ]
    assert [cell.strip() for cell in lines[3].split("|")[1:-1]] == ["killed", "18", "10", "6", "differ", "1.0"]
