"""Signs of life of a run: the files that it writes."""

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunet_ext.evaluation.epochs import epochs_of
from nnunet_ext.evaluation.runs import VALIDATION
from nnunet_ext.experiments.settings import Settings
from nnunet_ext.experiments.tasks import Task

Signature = frozenset[tuple[str, int, int]]
LOOKS = 60  # in the time after which a run hangs


class Pulse:
    """Whether a run has changed any of its files lately: ``progress.jsonl``, logs, checkpoints, predictions.

    Times of files are compared with each other alone, so that the clock of a file server does not matter. An epoch
    changes ``progress.jsonl``, our trainers' progress line the log each minute, the final validation its folder.
    """

    def __init__(self, task: Task, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self.task, self.settings, self.clock = task, settings, clock
        self.log = settings.log(task.name)
        self.seen = signature(task.folder, self.log)
        self.changed = self.looked = clock()

    def quiet_for(self) -> float:
        """Seconds without a change; looks at the files from time to time only."""
        now = self.clock()
        if now - self.looked >= self.settings.stale_minutes * 60 / LOOKS:
            self.looked = now
            if (found := signature(self.task.folder, self.log)) != self.seen:
                self.seen, self.changed = found, now
        return now - self.changed

    def hangs(self) -> bool:
        """Whether it has been quiet for too long."""
        quiet = self.quiet_for()
        return quiet >= self.settings.stale_minutes * 60 and quiet >= self.settings.stale_epochs * self._epoch()

    def _epoch(self) -> float:
        """Seconds that an epoch of this run takes; 0 where none has ended."""
        return epoch_seconds(self.task.folder) or 0


def epoch_seconds(folder: Path) -> float | None:
    """Median over the last epochs of a training; None before the first has ended."""
    return median_seconds(epochs_of(folder))


def median_seconds(records: Sequence[Mapping[str, Any]]) -> float | None:
    """Of the last of a training's epochs."""
    seconds = [record["seconds"] for record in records[-20:] if record["seconds"] is not None]
    return statistics.median(seconds) if seconds else None


def signature(folder: Path, log: Path) -> Signature:
    """Names, times and sizes of what a run writes."""
    return frozenset({*_files(folder), *_files(folder / VALIDATION), *_entry(log)})


def _files(folder: Path) -> set[tuple[str, int, int]]:
    if not folder.is_dir():
        return set()
    with os.scandir(folder) as entries:
        return {found for entry in entries for found in _entry(Path(entry.path))}


def _entry(path: Path) -> set[tuple[str, int, int]]:
    try:
        about = path.stat()
    except FileNotFoundError:  # renamed in this moment, or not written yet
        return set()
    return {(str(path), about.st_mtime_ns, about.st_size)}
