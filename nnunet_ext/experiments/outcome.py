"""How a task ended."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from nnunet_ext.trainers.signals import EXIT_CODE

STOPPED = EXIT_CODE  # 75, sysexits' EX_TEMPFAIL, as our trainers end
HUNG = 124  # as timeout(1) ends
FULL = 74  # EX_IOERR
SKIPPED = 69  # EX_UNAVAILABLE
LOST = 70  # EX_SOFTWARE
INCOMPLETE = 65  # EX_DATAERR
CODES: Mapping[int, str] = {
    STOPPED: "was asked to stop; the same sweep goes on with what is saved of it",
    HUNG: "hung: nothing of what it writes changed any more",
    FULL: "was not started: the disk is full",
    SKIPPED: "was not started: what it needs failed",
    LOST: "was lost again and again with the process or machine that ran it",
    INCOMPLETE: "ended with 0, but its result is not there",
}
"""Exit codes of tasks beside those of the commands themselves."""


@dataclass(frozen=True)
class Outcome:
    """How a task ended.

    Attributes:
        name: of the task.
        code: 0 where its result is there; the command's exit code, negative for the signal that ended it; or one of
            ``CODES``.
        tries: how often the command was started; 0 where the result was there before.
        lines: the last ones of its log.
        seconds: from its start to its end, all tries together.
        told: one sentence where something is to be said.
        where: the machine.
    """

    name: str
    code: int
    tries: int = 0
    lines: tuple[str, ...] = ()
    seconds: float = 0
    told: str = ""
    where: str = ""

    @property
    def done(self) -> bool:
        """Whether the result is there."""
        return self.code == 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def outcome_of(record: Mapping[str, Any]) -> Outcome:
    """The outcome that :meth:`Outcome.as_dict` gave."""
    return Outcome(**{**record, "lines": tuple(record["lines"])})
