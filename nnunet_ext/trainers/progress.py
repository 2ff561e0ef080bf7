"""``progress.jsonl``: a line an epoch, the one source for TensorBoard, reports and sweeps.

nnU-Net's logger refuses keys that it does not know and is restored from checkpoints; this file is read by people and
programs while the training runs.
"""

import json
import os
import platform
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import torch

from nnunet_ext import __version__

FILE = "progress.jsonl"
MIB = 2**20
RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes in which the system tells the peak


def read(folder: Path) -> list[dict[str, Any]]:
    """The lines of a fold's folder, by epoch; a last line that a kill has cut off is left out.

    Raises:
        ValueError: another line is not JSON.
    """
    path = folder / FILE
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    records = []
    for number, line in enumerate(lines, 1):
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number < len(lines):
                raise ValueError(f"Line {number} of {path} is not JSON ({error}); move the file away.") from error
    return records


def forget_from(folder: Path, epoch: int) -> None:
    """Drops the lines of an epoch and those after it: they are trained again."""
    kept = [record for record in read(folder) if record["epoch"] < epoch]
    path = folder / FILE
    if not kept and not path.exists():
        return
    partial = path.with_name(FILE + ".partial")
    partial.write_text("".join(map(_line, kept)), encoding="utf-8")
    os.replace(partial, path)


def append(folder: Path, record: dict[str, Any]) -> None:
    """Adds a line."""
    with (folder / FILE).open("a", encoding="utf-8") as file:
        file.write(_line(record))


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record, allow_nan=False) + "\n"


@cache
def origin() -> dict[str, Any]:
    """Where and with what a training runs."""
    from importlib.metadata import version

    return {
        "host": platform.node(),
        "versions": {
            "nnunet_ext": __version__,
            "nnunetv2": version("nnunetv2"),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "commit": commit(),
    }


def commit() -> str | None:
    """The commit of this package where it is run from a clone; None where it is installed or git is not there."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(  # a fixed command
            ["git", "rev-parse", "HEAD"],  # noqa: S607 - wherever git is
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


class Memory:
    """Memory of a training: CUDA's tensors at the peak of each step; elsewhere the process's resident set.

    Values are in MiB. The resident set's peak is that of the process until now; Windows does not tell it to Python.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.samples: list[float] = []

    def sample(self) -> None:
        """Called after each step."""
        if self.device.type == "cuda":
            self.samples.append(torch.cuda.max_memory_allocated(self.device) / MIB)
            torch.cuda.reset_peak_memory_stats(self.device)
        elif sys.platform != "win32":
            self.samples.append(resident())

    def take(self) -> dict[str, float | None]:
        """Mean and peak since the last call; None where nothing was seen."""
        samples, self.samples = self.samples, []
        if not samples:
            return {"mean_mib": None, "peak_mib": None}
        peak = max(samples) if self.device.type == "cuda" else max(*samples, peak_resident())
        return {"mean_mib": round(sum(samples) / len(samples), 1), "peak_mib": round(peak, 1)}


def resident() -> float:
    """Resident set of this process in MiB; where the system does not tell the present one, its peak."""
    pages = Path("/proc/self/statm")
    if pages.exists():
        return int(pages.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") / MIB
    return peak_resident()


def peak_resident() -> float:
    """Largest resident set of this process until now in MiB; not on Windows."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT / MIB
