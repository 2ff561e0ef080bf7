"""Moments at which a training is killed: changes of a trainer in a process that will not see its end."""

import os
import signal
from collections.abc import Callable
from typing import Any

from nnunet_ext.trainers import checkpoints

Kill = Callable[[Any], None]


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _before(count: int, function: Callable[..., Any], condition: Callable[..., bool]) -> Callable[..., Any]:
    """The function, but its ``count``-th call for which the condition holds kills the process."""
    calls = 0

    def called(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += condition(*args, **kwargs)
        if calls == count:
            _die()
        return function(*args, **kwargs)

    return called


def at(hook: str, count: int = 1) -> Kill:
    """Killed when it calls a hook of its own for the ``count``-th time."""

    def change(trainer: Any) -> None:
        setattr(trainer, hook, _before(count, getattr(trainer, hook), lambda *_, **__: True))

    return change


def signalled(hook: str, count: int, number: int) -> Kill:
    """Sent a signal when it calls a hook of its own for the ``count``-th time."""

    def change(trainer: Any) -> None:
        calls = iter(range(1, count + 1))

        def send(*_: Any, **__: Any) -> bool:
            if next(calls, 0) == count:
                os.kill(os.getpid(), number)
            return False

        setattr(trainer, hook, _before(1, getattr(trainer, hook), send))

    return change


def writing(name: str, count: int = 1) -> Kill:
    """Killed in the middle of the ``count``-th file of this name: its first bytes are on the disk."""

    def change(_trainer: Any) -> None:
        whole = checkpoints._save
        calls = 0

        def half(content: Any, file: Any) -> None:
            nonlocal calls
            whole(content, file)
            calls += file.name.endswith(name + checkpoints.PARTIAL)
            if calls == count:
                file.flush()
                file.truncate(file.tell() // 2)
                _die()

        checkpoints._save = half

    return change


def renaming(name: str, count: int = 1) -> Kill:
    """Killed when the ``count``-th file of this name is whole, before it gets the name."""

    def change(_trainer: Any) -> None:
        os.replace = _before(count, os.replace, lambda _source, target: str(target).endswith(name))

    return change


def removing(name: str) -> Kill:
    """Killed before it removes the file."""

    def change(_trainer: Any) -> None:
        os.remove = _before(1, os.remove, lambda path: str(path).endswith(name))

    return change
