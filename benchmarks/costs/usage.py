"""What a run itself needs: the peak of each process, and the memory that is still free."""

import os
import re
import resource
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from nnunet_ext.profiling.cost import MIB

STATUS, MEMINFO = Path("/proc/self/status"), Path("/proc/meminfo")
KIB = 2**10


def resident_peak() -> tuple[int, int]:
    """This process and the most bytes that it held in memory so far.

    On Linux not ``ru_maxrss``: a process that is spawned starts with its parent's there.
    """
    peak = _kibibytes(STATUS, "VmHWM")
    return os.getpid(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB if peak is None else peak


def free_memory() -> int | None:
    """Bytes that can be had without swapping, caches counted as free; None where the system does not tell."""
    return _kibibytes(MEMINFO, "MemAvailable")


def _kibibytes(path: Path, name: str) -> int | None:
    found = (
        re.search(rf"^{name}:\s+(\d+) kB", path.read_text(encoding="utf-8"), re.MULTILINE) if path.is_file() else None
    )
    return int(found[1]) * KIB if found else None


@dataclass(frozen=True)
class Usage:
    """What a table took.

    Attributes:
        rows: of the table.
        seconds: from start to end.
        resident_mib: the sum of the peaks of all processes, which is at least the peak of the sum.
        processes: how many there were.
    """

    rows: int
    seconds: float
    resident_mib: float
    processes: int

    @classmethod
    def of(cls, peaks: Iterable[tuple[int, int] | None], seconds: float) -> "Usage":
        """Of rows with what :func:`resident_peak` said when each was done, None where its process broke down."""
        highest: dict[int, int] = {}
        known = list(peaks)
        for process, peak in (*filter(None, known), resident_peak()):
            highest[process] = max(peak, highest.get(process, 0))
        return cls(len(known), seconds, sum(highest.values()) / MIB, len(highest))

    def __str__(self) -> str:
        memory = f"at most {self.resident_mib:.0f} MiB in {self.processes} processes"
        return f"{self.rows} rows in {self.seconds:.1f} s, {memory}"

    def as_dict(self) -> dict[str, float]:
        """All fields, for JSON."""
        return asdict(self)
