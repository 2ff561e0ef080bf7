"""A command as a process group of its own that can be asked to stop, and that does not outlive whoever started it."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>
Child = subprocess.Popen[bytes]


def start(words: Sequence[str], environment: Mapping[str, str], log: Path) -> Child:
    """Starts a command in a group of its own; what it prints is appended to ``log``.

    On Linux it is killed when this process is: its lock is free then, and another process may take its place. A
    training that is killed goes on from its last checkpoint as if nothing had been.
    """
    with log.open("ab") as output:
        output.write(f"$ {' '.join(words)}\n".encode())
        output.flush()
        return subprocess.Popen(
            list(words),
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_ends_with(os.getpid()),  # noqa: PLW1509 - the guardian has one thread
        )


def _ends_with(parent: int) -> Callable[[], None] | None:
    """What the new process calls before it becomes the command."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl  # found before the fork, after which little may be done

    def ask() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended in between
            os._exit(1)

    return ask


def ended(process: Child, seconds: float) -> int | None:
    """Waits so long at most; the exit code, negative for the signal that ended it, or None while it runs."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def stop(process: Child, grace_seconds: float) -> int:
    """Asks the group to stop, as a scheduler does; what has not ended then is killed. Returns the exit code."""
    _signal(process, signal.SIGTERM)
    try:
        return process.wait(grace_seconds)
    except subprocess.TimeoutExpired:
        _signal(process, signal.SIGKILL)
        return process.wait()


def sweep_up(process: Child) -> None:
    """Ends what the command has left running, such as workers that prepare batches."""
    _signal(process, signal.SIGKILL)
    process.wait()


def _signal(process: Child, number: int) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:  # all of the group have ended
        return
