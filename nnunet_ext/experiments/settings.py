"""How an experiment is carried out: what a run may take, and when it is given up."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Settings:
    """Of one experiment.

    Attributes:
        folder: of the experiment: ``logs/TASK.log`` and the wish to stop lie there. On a cluster all machines see it.
        retries: how often a task that failed is started again.
        stale_minutes: a run hangs when nothing that it writes has changed for so long, and
        stale_epochs: for so many of its own epochs, whichever is longer.
        free_gib: no run is started on a disk with less room.
        grace_seconds: a run that was asked to stop has so long to save itself.
        poll_seconds: how often a run is looked at.
        jobs: at most so many at once; None for as many as the machines hold.
        address: of a running Ray cluster; None for this machine alone.
        cpus, gpus: of this machine that may be used; None for all. On a cluster they are the cluster's.
    """

    folder: Path
    retries: int = 2
    stale_minutes: float = 60
    stale_epochs: float = 10
    free_gib: float = 2
    grace_seconds: float = 180
    poll_seconds: float = 1
    jobs: int | None = None
    address: str | None = None
    cpus: int | None = None
    gpus: int | None = None

    @property
    def stop(self) -> Path:
        """While this file is there, runs save themselves and end, and none begins."""
        return self.folder / "stop"

    def log(self, task: str) -> Path:
        """What a task prints."""
        return self.folder / "logs" / f"{task}.log"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "folder": str(self.folder)}


def settings_of(record: Mapping[str, Any]) -> Settings:
    """The settings that :meth:`Settings.as_dict` gave."""
    return Settings(**{**record, "folder": Path(record["folder"])})
