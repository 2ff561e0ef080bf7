"""A few processes that work through a list with a progress bar."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from types import TracebackType
from typing import Self, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "started in the main process"
    parent.join()
    os._exit(1)


def _start_worker() -> None:
    """Ctrl-C is the main process's business; and a worker ends when the main process was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()


class Workers:
    """``jobs`` processes, or this process for one; none is started before there is something to do.

    Processes are spawned: the same on every system, and free of the parent's memory.
    """

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def map(self, function: Callable[[Item], Result], items: Sequence[Item], description: str) -> Iterator[Result]:
        """Results of ``function`` (sent to the processes: no closure) for ``items``, in their order."""
        from tqdm import tqdm  # late: a run that finds everything done needs none

        processes = min(self.jobs, len(items))
        if self._pool is None and processes > 1:
            spawn = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(processes, mp_context=spawn, initializer=_start_worker)
        results: Iterable[Result] = self._pool.map(function, items) if self._pool else map(function, items)
        yield from tqdm(results, total=len(items), desc=description, unit="case")
