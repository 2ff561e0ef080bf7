"""The control on exchanged targets: what moves between the cases, and what stays."""

import csv

from benchmarks import outcomes_permuted
from nnunet_ext.outcomes.columns import TABLE_FILE
from nnunet_ext.outcomes.targets import load_targets
from tests.outcomes.conftest import SCHEMA, write_targets

AGES = {f"case{i}": str(40 + i) for i in range(12)}
DECLARED = {**SCHEMA, "covariates": {"age": {"coding": "z"}}}


def rows_of(text):
    return {row["case"]: row for row in csv.DictReader(text.splitlines())}


def table():
    lines = ["case,grade,stage,score,days,alive,patient,age"]
    levels = ("LGG", "I"), ("HGG", "III")
    for i, (case, age) in enumerate(AGES.items()):
        grade, stage = levels[i % 2]
        lines.append(f"{case},{grade},{stage},{i}.5,{100 + i},{i % 3 % 2},P{i},{age}")
    return "\n".join(lines) + "\n"


def test_targets_move_together_between_patients_and_covariates_stay(tmp_path):
    write_targets(tmp_path, DECLARED, table())
    before = rows_of(table())
    mixed = outcomes_permuted.exchanged(load_targets(tmp_path), tmp_path / TABLE_FILE, seed=1)
    after = rows_of(mixed)
    assert {case: (row["age"], row["patient"]) for case, row in after.items()} == {
        case: (row["age"], row["patient"]) for case, row in before.items()
    }
    targets = ("grade", "stage", "score", "days", "alive")
    moved = [tuple(row[name] for name in targets) for row in after.values()]
    given = [tuple(row[name] for name in targets) for row in before.values()]
    assert sorted(moved) == sorted(given)
    assert sum(one != other for one, other in zip(moved, given, strict=True)) > 6
    assert mixed != outcomes_permuted.exchanged(load_targets(tmp_path), tmp_path / TABLE_FILE, seed=2)


def test_the_table_shows_each_permutation_beside_the_true_targets():
    found = [
        {"targets": targets, "column": "grade", "kind": "class", "metrics": {"auc": value}}
        for targets, value in (("true", 0.9), ("permutation 1", None))
    ]
    lines = outcomes_permuted.table(found).splitlines()
    assert [cell.strip() for cell in lines[0].split("|")[1:-1]] == ["column", "metric", "true", "permutation 1"]
    assert [cell.strip() for cell in lines[2].split("|")[1:-1]] == ["grade", "auc", "0.900", "-"]
