"""What a run found out about the sources, kept so that the next run need not read them again."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from dataset_conversion.brats.discovery import Case
from dataset_conversion.brats.files import read_json, write_whole

RECORD_NAME = "conversion.json"


class Problem(NamedTuple):
    """Something wrong with a case: what, what to do, and where."""

    text: str
    remedy: str
    case: str = ""
    file: str = ""

    def __str__(self) -> str:
        return f"{self.case}: {self.file + ' ' if self.file else ''}{self.text}; {self.remedy}"


class Report(NamedTuple):
    """The audit of a case: voxels per label (ours), SHA-256 over its files in the edition's order, problems."""

    voxels: dict[int, int]
    checksum: str
    problems: list[Problem]


def fingerprint(case: Case) -> list[list[int]]:
    """Size, time of change (ns) and inode of each file: equal as long as nobody touches them."""
    files = (file for kind in sorted(case.files) for file in case.files[kind])
    statuses = (file.stat() if file.exists() else file.lstat() for file in files)  # a dangling link is found later
    return [[status.st_size, status.st_mtime_ns, status.st_ino] for status in statuses]


@dataclass
class Record:
    """The record of one dataset.

    Attributes:
        options: what decides about the content; another run must have the same.
        fingerprints: of each case's sources when they were audited.
        reports: the audits of the cases, the refused ones included.
    """

    options: dict[str, Any]
    fingerprints: dict[str, list[list[int]]] = field(default_factory=dict)
    reports: dict[str, Report] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> "Record | None":
        """Read the record in ``folder``; None where there is none."""
        path = folder / RECORD_NAME
        if not path.is_file():
            return None
        stored = read_json(path)
        reports = {
            case: Report(
                {int(label): number for label, number in report["voxels"].items()},
                report["checksum"],
                [Problem(*problem) for problem in report["problems"]],
            )
            for case, report in stored["reports"].items()
        }
        return cls(stored["options"], stored["fingerprints"], reports)

    def write(self, folder: Path) -> None:
        """Write the record into ``folder``."""
        stored = asdict(self) | {"reports": {case: report._asdict() for case, report in self.reports.items()}}
        write_whole(folder / RECORD_NAME, json.dumps(stored).encode())

    def good(self) -> set[str]:
        """Names of the cases without a problem."""
        return {case for case, report in self.reports.items() if not report.problems}

    def problems(self, cases: Iterable[str]) -> list[Problem]:
        """All problems of ``cases``."""
        return [problem for case in cases for problem in self.reports[case].problems]
