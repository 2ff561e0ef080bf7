"""Who is trained on, validated with and kept for testing: by patient, in equal shares of each grade, for ever the same.

Nothing is drawn: patients are put in the order of a hash of their names, grade after grade, and dealt out like cards.
So the folds depend on no library's version, and every stride through the order has its share of each grade.
"""

import hashlib
from collections.abc import Iterable, Mapping

from dataset_conversion.brats.discovery import Case

FOLDS = 5
HOLD_OUT = 0.1
"""Share of all patients, those kept for testing included, that the sixth split validates with."""

Split = dict[str, list[str]]


def patients_in_order(cases: Iterable[Case]) -> list[str]:
    """All patients, grade after grade, each grade in the order of the names' hashes."""
    grades = {case.patient: case.grade for case in cases}
    return sorted(grades, key=lambda patient: (grades[patient], hashlib.sha256(patient.encode()).hexdigest()))


def evenly_spaced(patients: list[str], number: int) -> list[str]:
    """Choose ``number`` of ``patients`` at equal distances."""
    return [patients[(2 * place + 1) * len(patients) // (2 * number)] for place in range(number)]


def choose_test(cases: Mapping[str, Case], fraction: float) -> set[str]:
    """Names of the cases of the patients, a ``fraction`` of all, that are kept for testing."""
    patients = patients_in_order(cases.values())
    chosen = set(evenly_spaced(patients, round(fraction * len(patients))))
    return {name for name, case in cases.items() if case.patient in chosen}


def _split(cases: Mapping[str, Case], validation: Iterable[str]) -> Split:
    chosen = set(validation)
    names = sorted(cases)
    return {
        "train": [name for name in names if cases[name].patient not in chosen],
        "val": [name for name in names if cases[name].patient in chosen],
    }


def make_splits(cases: Mapping[str, Case], test_patients: int = 0) -> list[Split]:
    """Make the splits for ``splits_final.json`` of the training cases.

    Five folds and a sixth entry with one hold-out split; with fewer patients than folds leave-one-out without a sixth
    entry; nothing for a single patient.
    """
    patients = patients_in_order(cases.values())
    if len(patients) < FOLDS:
        return [_split(cases, [patient]) for patient in patients] if len(patients) > 1 else []
    hold_out = max(1, round(HOLD_OUT * (len(patients) + test_patients)))
    folds = [_split(cases, patients[fold::FOLDS]) for fold in range(FOLDS)]
    return [*folds, _split(cases, evenly_spaced(patients, hold_out))]
