"""Signals with which a scheduler asks a training to make room."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# sysexits' EX_TEMPFAIL, "try again": the training is saved and goes on with --c
EXIT_CODE = 75
# Slurm's --signal=USR1@120 and the end of a job; Windows has no SIGUSR1
STOPPING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1") if hasattr(signal, name))
GRACE_SECONDS = 60.0  # of a worker after SIGTERM: schedulers send it to all processes of a job at once


class Request:
    """Whether one of the signals has come, and which."""

    def __init__(self) -> None:
        self.name: str | None = None

    def receive(self, number: int, _frame: object) -> None:
        """Notes the signal; the training looks after each step."""
        self.name = signal.Signals(number).name


@contextmanager
def listening() -> Iterator[Request]:
    """Notes the signals instead of dying of them; outside of the main thread Python allows no handler."""
    request = Request()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, request.receive) for number in STOPPING}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def outlive_stopping() -> None:
    """In a worker: serve the trainer while it finishes its step, as it got the same signal, and end a minute later."""
    for number in STOPPING:
        signal.signal(number, _leave_later)


def _leave_later(_number: int, _frame: object) -> None:
    timer = threading.Timer(GRACE_SECONDS, os._exit, (1,))
    timer.daemon = True
    timer.start()
