from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset_conversion.brats.discovery import Case
from dataset_conversion.brats.splits import choose_test, make_splits, patients_in_order

PATIENTS = st.dictionaries(
    st.text("abcdefghij0123456789", min_size=1, max_size=6),
    st.tuples(st.sampled_from(["HGG", "LGG", ""]), st.integers(1, 3)),
    min_size=5,
    max_size=60,
)


def cases_of(patients: dict[str, tuple[str, int]]) -> dict[str, Case]:
    return {
        f"{patient}-{scan}": Case(f"{patient}-{scan}", patient, grade)
        for patient, (grade, scans) in patients.items()
        for scan in range(scans)
    }


@given(PATIENTS)
def test_every_case_is_validated_once_and_no_patient_is_on_both_sides(patients: dict[str, tuple[str, int]]) -> None:
    cases = cases_of(patients)
    splits = make_splits(cases)
    assert len(splits) == 6
    assert Counter(name for split in splits[:5] for name in split["val"]) == Counter(list(cases))
    for split in splits:
        train, validation = ({cases[name].patient for name in split[part]} for part in ("train", "val"))
        assert not train & validation
        assert train | validation == set(patients)
        assert validation


@given(PATIENTS)
def test_folds_are_equal_and_hold_equal_shares_of_each_grade(patients: dict[str, tuple[str, int]]) -> None:
    cases = cases_of(patients)
    folds = [{cases[name].patient for name in split["val"]} for split in make_splits(cases)[:5]]
    for grade in ("HGG", "LGG", ""):
        shares = [sum(patients[patient][0] == grade for patient in fold) for fold in folds]
        assert max(shares) - min(shares) <= 1
    assert max(map(len, folds)) - min(map(len, folds)) <= 1


@given(PATIENTS, st.randoms())
def test_splits_depend_on_nothing_but_the_cases(patients: dict[str, tuple[str, int]], random: object) -> None:
    shuffled = list(patients.items())
    random.shuffle(shuffled)  # type: ignore[attr-defined] # hypothesis gives a random.Random
    assert make_splits(cases_of(dict(shuffled))) == make_splits(cases_of(patients))


def test_splits_are_frozen() -> None:
    cases = cases_of({f"P{n}": ("LGG" if n % 4 == 0 else "HGG", 1) for n in range(10)})
    validation = [[name[:2] for name in split["val"]] for split in make_splits(cases)]
    assert validation == [["P5", "P7"], ["P1", "P6"], ["P0", "P3"], ["P2", "P4"], ["P8", "P9"], ["P7"]]


@given(PATIENTS, st.floats(0, 0.9))
def test_test_cases_are_whole_patients_and_a_share_of_each_grade(
    patients: dict[str, tuple[str, int]], fraction: float
) -> None:
    cases = cases_of(patients)
    test = choose_test(cases, fraction)
    chosen = {cases[name].patient for name in test}
    assert test == {name for name, case in cases.items() if case.patient in chosen}
    assert len(chosen) == round(fraction * len(patients))
    for grade in ("HGG", "LGG", ""):
        of_grade = [patient for patient in patients if patients[patient][0] == grade]
        assert abs(len(chosen & set(of_grade)) - len(chosen) * len(of_grade) / len(patients)) < 2


def test_a_tenth_for_testing_gives_80_10_10() -> None:
    cases = cases_of({f"P{n}": ("LGG" if n % 4 == 0 else "HGG", 1) for n in range(100)})
    test = choose_test(cases, 0.1)
    training = {name: case for name, case in cases.items() if name not in test}
    hold_out = make_splits(training, test_patients=10)[5]
    assert (len(hold_out["train"]), len(hold_out["val"]), len(test)) == (80, 10, 10)


@pytest.mark.parametrize("patients", [1, 2, 3, 4])
def test_fewer_patients_than_folds_are_left_out_one_by_one(patients: int) -> None:
    cases = cases_of({f"P{n}": ("", 2) for n in range(patients)})
    splits = make_splits(cases)
    assert len(splits) == (patients if patients > 1 else 0)
    assert all(len(split["val"]) == 2 and len(split["train"]) == 2 * (patients - 1) for split in splits)


def test_the_order_is_by_hash_within_the_grade() -> None:
    cases = cases_of({"a": ("LGG", 1), "b": ("HGG", 1), "c": ("HGG", 2)})
    # SHA-256 of c, b begin with 2e, 3e
    assert patients_in_order(cases.values()) == ["c", "b", "a"]
