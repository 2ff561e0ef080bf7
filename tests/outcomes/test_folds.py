"""Folds: laws of grouping and stratification, and what is told of folds that can show nothing."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunet_ext.outcomes.columns import schema_from
from nnunet_ext.outcomes.folds import check_part, check_splits, make_splits, strata, what_a_fold_lacks
from nnunet_ext.outcomes.targets import Targets, checked

SCHEMA = schema_from(
    {
        "columns": {
            "grade": {"kind": "class", "levels": ["0", "1", "2"]},
            "score": {"kind": "regression", "unit": "mm"},
            "days": {"kind": "survival", "censoring": "censored"},
        },
        "groups": ["patient"],
    }
)


def targets_of(rows: list[tuple[str, str]], stratify: str = "grade", **columns: list[str]) -> Targets:
    """Cases c00, c01, ... of (patient, grade)."""
    schema = schema_from({**SCHEMA.as_dict(), "stratify": stratify})
    filled = {name: [""] * len(rows) for name in ("score", "days", "censored", "set")} | columns
    table = {
        f"c{i:02d}": {"patient": patient, "grade": grade, **{name: cells[i] for name, cells in filled.items()}}
        for i, (patient, grade) in enumerate(rows)
    }
    return checked(Targets(schema, table))


GRADED = st.lists(
    st.tuples(st.sampled_from([f"p{i}" for i in range(9)]), st.sampled_from(["0", "1", "2", ""])), min_size=2
)


@given(GRADED, st.integers(2, 6), st.integers(0, 3))
def test_no_patient_is_in_two_folds_and_every_case_is_validated_with_once(rows, folds, seed):
    targets = targets_of(rows)
    patients = {patient for patient, _ in rows}
    if len(patients) < 2:
        with pytest.raises(ValueError, match="of one patient, so no fold"):
            make_splits(targets, folds, seed)
        return
    splits = make_splits(targets, folds, seed)
    assert len(splits) == min(folds, len(patients))
    assert sorted(case for split in splits for case in split["val"]) == sorted(targets.rows)
    for split in splits:
        sides = [{targets.rows[case]["patient"] for case in split[part]} for part in ("train", "val")]
        assert sides[0].isdisjoint(sides[1])
        assert all(sides)
        assert sorted([*split["train"], *split["val"]]) == sorted(targets.rows)
    check_splits(targets, splits, "x")


@given(st.lists(st.integers(2, 6), min_size=1, max_size=3), st.integers(2, 4))
def test_each_fold_has_its_share_of_each_level_where_patients_have_one_case(shares, folds):
    """Counts of a level differ by at most one between folds where each patient has one case."""
    grades = [str(level) for level, share in enumerate(shares) for _ in range(share * folds)]
    targets = targets_of([(f"p{i}", grade) for i, grade in enumerate(grades)])
    for split in make_splits(targets, folds):
        counts = Counter(targets.rows[case]["grade"] for case in split["val"])
        assert counts == {str(level): share for level, share in enumerate(shares)}


def test_folds_do_not_depend_on_the_order_of_the_rows():
    rows = [(f"p{i // 2}", str(i % 3)) for i in range(20)]
    targets = targets_of(rows)
    turned = Targets(targets.schema, dict(reversed(targets.rows.items())))
    assert make_splits(turned) == make_splits(targets)
    assert make_splits(targets, seed=1) != make_splits(targets)


def test_cases_for_testing_are_in_no_fold():
    targets = targets_of([(f"p{i}", str(i % 2)) for i in range(12)], set=["test"] * 3 + ["train"] * 5 + [""] * 4)
    used = {case for split in make_splits(targets) for cases in split.values() for case in cases}
    assert used == {f"c{i:02d}" for i in range(3, 12)}


def test_strata_of_levels_and_of_what_is_not_known():
    targets = targets_of([("a", "2"), ("b", ""), ("c", "0")])
    assert strata(targets, ["c00", "c01", "c02"]).tolist() == [2, -1, 0]


def test_strata_of_numbers_are_quantiles():
    targets = targets_of([(f"p{i}", "") for i in range(9)], "score", score=["3", "1", "", "2", "5", "4", "7", "8", "6"])
    cases = list(targets.rows)
    # eight known numbers, folds of two: four quantiles of two
    assert strata(targets, cases, 2).tolist() == [1, 0, -1, 0, 2, 1, 3, 3, 2]
    assert set(strata(targets, cases, 5).tolist()) == {0, -1}


def test_censored_times_are_strata_of_their_own():
    targets = targets_of(
        [(f"p{i}", "") for i in range(4)], "days", days=["1", "2", "3", ""], censored=["0", "1", "0", ""]
    )
    assert strata(targets, list(targets.rows), 3).tolist() == [0, 5, 0, -1]


def test_numbers_are_spread_over_the_folds():
    targets = targets_of([(f"p{i}", "") for i in range(50)], "score", score=[str(i) for i in range(50)])
    means = [targets.values("score", split["val"]).mean() for split in make_splits(targets)]
    assert np.ptp(means) < 8  # unstratified thirds of such rows differ by more; the whole range is 49


@pytest.mark.parametrize("folds", [1, 0, -3])
def test_one_fold_is_none(folds):
    with pytest.raises(ValueError, match="give at least 2"):
        make_splits(targets_of([("a", "0"), ("b", "1")]), folds)


NAME = "the training cases of fold 3"


@pytest.mark.parametrize(
    ("column", "columns", "said"),
    [
        ("grade", {}, "(2 of 3 known): all are 1, and one class"),
        ("score", {}, "(0 of 3 known): no case has a value"),
        ("score", {"score": ["2.5", "2.5", ""]}, "(2 of 3 known): all are 2.5"),
        ("days", {"days": ["10", "20", ""], "censored": ["1", "1", ""]}, "all times are censored"),
    ],
)
def test_what_cannot_be_learnt(column, columns, said):
    targets = targets_of([("a", "1"), ("b", "1"), ("c", "")], **columns)
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - the sentence is looked at
        check_part(targets, column, ["c00", "c01", "c02"], NAME)
    assert said in str(raised.value)
    assert f"{column} in {NAME}" in str(raised.value)


def test_what_can_be_learnt():
    targets = targets_of([("a", "1"), ("b", "0")], score=["1", "2"], days=["5", "5"], censored=["0", "1"])
    for column in targets.columns:
        check_part(targets, column, ["c00", "c01"], NAME)


def test_what_folds_lack_is_told_for_each():
    targets = targets_of(
        [("a", "0"), ("b", "0"), ("c", "1"), ("d", "2")],
        score=list("1234"),
        days=list("1234"),
        censored=["0"] * 4,
    )
    splits = [
        {"train": ["c00", "c01"], "val": ["c02", "c03"]},
        {"train": ["c00", "c02", "c03"], "val": ["c01", "c02"]},
    ]
    told = [(part, sentence) for part, sentence in what_a_fold_lacks(targets, splits) if sentence.startswith("grade")]
    assert told == [
        (
            "train",
            "grade in the training cases of fold 0 (2 of 2 known): all are 0, and one class cannot be told from "
            "another; add cases or make fewer folds.",
        ),
        ("val", "grade in the validation cases of fold 0: no case is 0."),
        ("val", "grade in the validation cases of fold 1: no case is 2."),
    ]


PATIENTS = targets_of([("a", "0"), ("a", "0"), ("b", "1"), ("c", "1")], set=["", "", "", "test"])


@pytest.mark.parametrize(
    ("splits", "said"),
    [
        ([{"train": ["c00"], "val": ["c01"]}], "x, fold 0 validates with c01 and trains with c00, which are of one"),
        ([{"train": ["c02"], "val": ["c00"]}, {"train": ["c02"], "val": ["c02"]}], "x, fold 1 validates with c02"),
        ([{"train": ["c03"], "val": ["c00"]}], "has the case c03, which is no training case"),
        ([{"train": ["c00"], "val": ["c09"]}], "has the case c09"),
        ([], "no list of"),
        ({}, "no list of"),
        ([{"train": ["c00"]}], "no list of"),
        ([["c00"]], "no list of"),
        ([{"train": ["c00"], "val": "c02"}], "no list of"),
        ([{"train": [0], "val": ["c02"]}], "no list of"),
        ([{"train": ["c02", "c02"], "val": ["c00"]}], "fold 0 has the case c02 more than once in 'train'"),
        ([{"train": ["c00"], "val": []}], "fold 0 has no case in 'val'"),
    ],
)
def test_splits_that_part_a_patient_or_are_none(splits, said):
    with pytest.raises(ValueError, match=said):
        check_splits(PATIENTS, splits, "x")


def test_a_single_split_of_ones_own_is_kept():
    splits = [{"train": ["c00", "c01"], "val": ["c02"]}]
    assert check_splits(PATIENTS, splits, "x") == splits
