"""What a run found out about the sources, kept so that the next run need not read them again."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from dataset_conversion.brats.discovery import Case
from dataset_conversion.brats.files import read_json, write_whole
from dataset_conversion.brats.problem import Problem

RECORD_NAME = "conversion.json"
AUDIT = 2
"""Number of the audit: what an earlier one let pass is looked at again."""


class Report(NamedTuple):
    """The audit of a case.

    Attributes:
        voxels: per label (ours).
        checksum: SHA-256 over its files in the edition's order.
        problems: what it is refused for.
        warnings: what is only to be told.
        scans: SHA-256 of each image's voxels.
        grid: voxel order and spacing.
    """

    voxels: dict[int, int]
    checksum: str
    problems: list[Problem]
    warnings: list[Problem]
    scans: dict[str, str]
    grid: str


def fingerprint(case: Case) -> list[list[int]]:
    """Size, time of change (ns) and inode of each file: equal as long as nobody touches them."""
    files = (file for kind in sorted(case.files) for file in case.files[kind])
    statuses = (file.stat() if file.exists() else file.lstat() for file in files)  # a dangling link is found later
    return [[status.st_size, status.st_mtime_ns, status.st_ino] for status in statuses]


def _report(stored: dict[str, Any]) -> Report:
    lists = {key: [Problem(*problem) for problem in stored[key]] for key in ("problems", "warnings")}
    voxels = {int(label): number for label, number in stored["voxels"].items()}
    return Report(**{**stored, **lists, "voxels": voxels})


@dataclass
class Record:
    """The record of one dataset.

    Attributes:
        options: what decides about the content; another run must have the same.
        fingerprints: of each case's sources when they were audited.
        reports: the audits of the cases, the refused ones included.
        written: the cases that are in the dataset.
        current: whether the audits looked at all that is looked at today.
    """

    options: dict[str, Any]
    fingerprints: dict[str, list[list[int]]] = field(default_factory=dict)
    reports: dict[str, Report] = field(default_factory=dict)
    written: list[str] = field(default_factory=list)
    current: bool = True

    @classmethod
    def read(cls, folder: Path) -> "Record | None":
        """Read the record in ``folder``; None where there is none."""
        path = folder / RECORD_NAME
        if not path.is_file():
            return None
        stored = read_json(path)
        if stored.get("audit") == AUDIT:
            reports = {case: _report(report) for case, report in stored["reports"].items()}
            return cls(stored["options"], stored["fingerprints"], reports, stored["written"])
        written = [case for case, report in stored["reports"].items() if not report["problems"]]
        reports = dict.fromkeys(stored["reports"], Report({}, "", [], [], {}, ""))
        return cls(stored["options"], stored["fingerprints"], reports, written, current=False)

    def write(self, folder: Path) -> None:
        """Write the record into ``folder``."""
        stored = asdict(self) | {"reports": {case: report._asdict() for case, report in self.reports.items()}}
        stored["audit"] = AUDIT
        write_whole(folder / RECORD_NAME, json.dumps(stored).encode())

    def problems(self, cases: Iterable[str]) -> list[Problem]:
        """All problems of ``cases``."""
        return [problem for case in cases for problem in self.reports[case].problems]
