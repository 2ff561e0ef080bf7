"""One task from where it is to its end: alone, again where it failed, ended where it hangs."""

import platform
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from nnunet_ext.experiments import process
from nnunet_ext.experiments.outcome import CODES, FULL, HUNG, INCOMPLETE, STOPPED, Outcome
from nnunet_ext.experiments.pulse import Pulse
from nnunet_ext.experiments.settings import Settings
from nnunet_ext.experiments.state import State, alone, on_disk, put_aside
from nnunet_ext.experiments.tasks import Task

LINES = 20  # of a log that are shown
TAIL = 2**16  # bytes of a log in which they are looked for
REQUEUES = 100  # of a run that was asked to stop by somebody else, such as a scheduler that wants the machine
GIB = 2**30
Asked = Callable[[], bool]


@dataclass
class _Tries:
    """What has been tried."""

    codes: list[int] = field(default_factory=list)

    @property
    def failed(self) -> int:
        return sum(code != STOPPED for code in self.codes)


def run(task: Task, settings: Settings, asked: Asked = lambda: False) -> Outcome:
    """Has a task done; the caller's process holds the run's folder meanwhile.

    A task whose result is there is left as it is. One that failed is started again ``settings.retries`` times, from
    its last checkpoint where there is one; one that somebody else asked to stop goes on without that being a failure.

    Args:
        task: that is to be done.
        settings: how.
        asked: whether it shall save itself and end; looked at all the time.
    """
    began, tries = time.monotonic(), _Tries()
    with _turn(task, settings, asked) as mine:
        code = _until_done(task, settings, asked, tries) if mine else STOPPED
    lines = () if code == 0 or not tries.codes else last_lines(settings.log(task.name))
    return Outcome(
        name=task.name,
        code=code,
        tries=len(tries.codes),
        lines=lines,
        seconds=round(time.monotonic() - began, 3),
        told=_sentence(task, code, settings),
        where=platform.node(),
    )


def _until_done(task: Task, settings: Settings, asked: Asked, tries: _Tries) -> int:
    while True:
        if on_disk(task) is State.FINISHED:
            return 0
        if asked():
            return STOPPED
        if free_gib(task.folder) < settings.free_gib:
            return FULL
        code = _once(task, settings, asked)
        tries.codes.append(code)
        if code != 0 and (tries.failed > settings.retries or len(tries.codes) > REQUEUES):
            return code


@contextmanager
def _turn(task: Task, settings: Settings, asked: Asked) -> Iterator[bool]:
    """Waits until no other process works on the run; gives False where it was asked to stop before."""
    while True:
        with alone(task) as mine:
            if mine or asked():
                yield mine
                return
        time.sleep(settings.poll_seconds)


def _once(task: Task, settings: Settings, asked: Asked) -> int:
    """Starts the command and waits for its end, or brings it about; 0 where the result is there."""
    log = settings.log(task.name)
    log.parent.mkdir(parents=True, exist_ok=True)
    aside = put_aside(task)
    with log.open("a", encoding="utf-8") as file:
        file.writelines(f"{name} is damaged or of an earlier run; it was put aside.\n" for name in aside)
    words = task.command if on_disk(task) is State.NEW else task.goes_on
    child = process.start(words, task.full_environment(), log)
    try:
        code = _watch(child, Pulse(task, settings), settings, asked)
    finally:
        process.sweep_up(child)
    if code == 0 and on_disk(task) is not State.FINISHED:
        return INCOMPLETE
    return code


def _watch(child: process.Child, pulse: Pulse, settings: Settings, asked: Asked) -> int:
    while (code := process.ended(child, settings.poll_seconds)) is None:
        if asked():
            code = process.stop(child, settings.grace_seconds)
            return 0 if code == 0 else STOPPED
        if pulse.hangs():
            process.stop(child, settings.grace_seconds)
            return HUNG
    return code


def free_gib(folder: Path) -> float:
    """Room on the disk where a folder is or will be, in GiB."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(there).free / GIB


def last_lines(log: Path) -> tuple[str, ...]:
    """The end of a log; a line that was rewritten on a terminal counts as its last state."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL))
        text = file.read().decode("utf-8", errors="replace")
    return tuple(line.rsplit("\r", 1)[-1] for line in text.rstrip().split("\n")[-LINES:])


def _sentence(task: Task, code: int, settings: Settings) -> str:
    if code == FULL:
        return (
            f"{task.name} was not started: {free_gib(task.folder):.1f} GiB are free for {task.folder}, and a run is "
            f"started with {settings.free_gib:g} at least; make room and start the same sweep again."
        )
    if code == 0:
        return ""
    what = CODES.get(code) or (f"ended with exit code {code}" if code > 0 else f"was ended by signal {-code}")
    return f"{task.name} {what} (log: {settings.log(task.name)})."
