"""Finding the cases of a BraTS tree by the names of its files, wherever they lie below the source folder."""

import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dataset_conversion.brats.editions import EDITIONS, SEGMENTATION, Edition

ENDINGS = (".nii.gz", ".nii")
GRADES = ("HGG", "LGG")


@dataclass
class Case:
    """One scan of one patient.

    ``files`` holds the files found of each kind (the edition's names); a sound case has one of each. ``grade`` is HGG,
    LGG or empty where it is unknown.
    """

    name: str
    patient: str
    grade: str
    files: dict[str, list[Path]] = field(default_factory=dict)

    @property
    def labelled(self) -> bool:
        """Whether it has a segmentation."""
        return SEGMENTATION in self.files


@dataclass(frozen=True)
class Tree:
    """What a source folder holds: one edition, its cases by name, and the NIfTI files that belong to none."""

    edition: Edition
    cases: dict[str, Case]
    strays: list[Path]

    @property
    def labelled(self) -> bool:
        """Whether it is a training set: one case with a segmentation makes the others incomplete."""
        return any(case.labelled for case in self.cases.values())

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of files that each case must have."""
        return self.edition.kinds if self.labelled else self.edition.kinds[:-1]

    @property
    def endings(self) -> set[str]:
        """Endings of the files' names."""
        return {ending_of(file) for case in self.cases.values() for files in case.files.values() for file in files}


class TreeError(Exception):
    """The source as a whole cannot be converted; the message says why and what to do."""


def ending_of(path: Path) -> str:
    """``.nii.gz``, ``.nii``, or nothing for another file."""
    return next((ending for ending in ENDINGS if path.name.lower().endswith(ending)), "")


def _files(source: Path) -> Iterator[Path]:
    """All files below ``source`` in a fixed order; links to folders are followed, each folder once."""
    seen = set()
    for folder, subfolders, names in os.walk(source, followlinks=True):
        status = Path(folder).stat()
        if (status.st_dev, status.st_ino) in seen:
            subfolders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        subfolders.sort()
        yield from (Path(folder) / name for name in sorted(names))


def _grades_of_table(path: Path) -> dict[str, str]:
    """Grade of each case by ``name_mapping.csv``, which came with BraTS 2019 and 2020."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    return {name: row["Grade"] for row in rows if row.get("Grade") in GRADES for name in row.values() if name}


def _grade(file: Path, case: str, table: dict[str, str]) -> str:
    folders = [part for part in file.parts if part in GRADES]
    return folders[-1] if folders else table.get(case, "")


def find_cases(source: Path) -> Tree:
    """Find the cases below ``source`` (an absolute path).

    Raises:
        TreeError: if there is no case, or if the cases are of several editions.
    """
    files = list(_files(source))
    tables = [_grades_of_table(file) for file in files if file.name == "name_mapping.csv"]
    grades = {case: grade for table in tables for case, grade in table.items()}
    found: dict[str, dict[str, Case]] = {edition.name: {} for edition in EDITIONS}
    strays = []
    for file in filter(ending_of, files):
        stem = file.name[: -len(ending_of(file))]
        parsed = next(((e, p) for e in EDITIONS if (p := e.parse(stem))), None)
        if parsed is None:
            strays += [] if file.name.startswith("._") else [file]  # macOS leaves such a shadow of each file
            continue
        edition, (name, patient, kind) = parsed
        case = found[edition.name].setdefault(name, Case(name, patient, _grade(file, name, grades)))
        case.files.setdefault(kind, []).append(file)
    return _only_edition(source, found, strays)


def _only_edition(source: Path, found: dict[str, dict[str, Case]], strays: list[Path]) -> Tree:
    """The tree, if all cases are of one edition."""
    present = [edition for edition in EDITIONS if found[edition.name]]
    if not present:
        example = f"{strays[0].name} is not. " if strays else ""
        raise TreeError(
            f"No case of a known edition below {source}: files are named like Brats18_..._t1ce.nii.gz, "
            f"BraTS2021_00000_t1ce.nii.gz or BraTS-GLI-00000-000-t1c.nii.gz. {example}Give the folder of a BraTS set."
        )
    if len(present) > 1:
        counts = ", ".join(f"{edition.name} ({len(found[edition.name])} cases)" for edition in present)
        raise TreeError(f"Several editions below {source}: {counts}. Convert each into a dataset of its own.")
    return Tree(present[0], dict(sorted(found[present[0].name].items())), strays)
