"""Stands between a process that may vanish and a run: ``python -m nnunet_ext.experiments.guardian``.

A worker of Ray is killed with its driver, its machine's head, or when memory is short, and has no time for the
training that it started. So it starts this process and keeps a pipe to it. The guardian holds the run's folder and
watches the run; when the pipe closes, whatever the reason, it has the training save itself and ends with it. Only then
is the folder free for a sweep that was started again.
"""

import json
import os
import select
import signal
import subprocess
import sys
import traceback
from typing import IO, Any, Self

from nnunet_ext.experiments.outcome import Outcome, outcome_of
from nnunet_ext.experiments.settings import Settings, settings_of
from nnunet_ext.experiments.supervise import run
from nnunet_ext.experiments.tasks import Task, task_of
from nnunet_ext.trainers.signals import STOPPING


class LostError(RuntimeError):
    """The guardian of a run was killed, and the run with it."""


class Guard:
    """A guardian that has been started for a task; leaving the context, however that happens, asks it to end."""

    def __init__(self, task: Task, settings: Settings) -> None:
        self.name = task.name
        words = [sys.executable, "-m", __name__]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
        request = json.dumps({"task": task.as_dict(), "settings": settings.as_dict()})
        self._pipe.write(request.encode() + b"\n")
        self._pipe.flush()

    @property
    def _pipe(self) -> IO[bytes]:
        assert self.process.stdin is not None
        return self.process.stdin

    def outcome(self) -> Outcome:
        """Waits for it.

        Raises:
            LostError: the guardian was killed.
        """
        assert self.process.stdout is not None
        answer = self.process.stdout.read()
        if not answer:
            raise LostError(f"What watched over {self.name} ended with code {self.process.wait()} and without a word.")
        return outcome_of(json.loads(answer))

    def end(self) -> None:
        """Closes the pipe, and waits until the run has saved itself and ended."""
        self._pipe.close()
        self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def guarded(task: Task, settings: Settings) -> Outcome:
    """Has a task done by a guardian and waits for it; leaving this function by an exception asks it to stop.

    Raises:
        LostError: the guardian was killed.
    """
    with Guard(task, settings) as guard:
        return guard.outcome()


class Wish:
    """Whether the run shall end: by a signal, a closed pipe, or the experiment's stop file."""

    def __init__(self, pipe: int, settings: Settings) -> None:
        self.pipe, self.settings = pipe, settings
        self.signalled = False
        for number in (*STOPPING, signal.SIGINT):
            signal.signal(number, self._receive)
        # Slurm sends it to all processes of a job; it is meant for submitit's, and the training inherits this
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)

    def _receive(self, *_: Any) -> None:
        self.signalled = True

    def __call__(self) -> bool:
        """Asks; nothing is ever written into the pipe after the request, so it can be read only when it is closed."""
        closed = bool(select.select([self.pipe], [], [], 0)[0])
        return self.signalled or closed or self.settings.stop.exists()


def main() -> None:
    """Reads the request, watches over the run, writes the outcome."""
    request = json.loads(_line(sys.stdin.fileno()))
    settings = settings_of(request["settings"])
    outcome = _told(task_of(request["task"]), settings, Wish(sys.stdin.fileno(), settings))
    try:
        sys.stdout.write(json.dumps(outcome.as_dict()))
        sys.stdout.flush()
    except BrokenPipeError:  # nobody waits any more; what was reached lies in the run's folder
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _told(task: Task, settings: Settings, wish: Wish) -> Outcome:
    """What becomes of the task; an error on this side of the command is an outcome too, and is told whole."""
    try:
        return run(task, settings, wish)
    except Exception as error:
        code = 2 if isinstance(error, ValueError) else 1
        lines = tuple(traceback.format_exc().rstrip().split("\n"))
        return Outcome(task.name, code, lines=lines, told=f"{task.name} could not be supervised: {error}")


def _line(pipe: int) -> bytes:
    """The first line, unbuffered: nothing may be taken out of the pipe by chance."""
    line = b""
    while not line.endswith(b"\n"):
        part = os.read(pipe, 2**16)
        if not part:
            sys.exit(1)  # whoever started this has gone already
        line += part
    return line


if __name__ == "__main__":
    main()
