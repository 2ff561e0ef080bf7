"""The same work for many things, in several processes."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def each(function: Callable[[Item], Result], items: Sequence[Item], jobs: int) -> Iterator[Result]:
    """What the function makes of every item; with one job in order and in this process, with more in any order.

    Raises:
        ValueError: a process was ended from outside.
    """
    if min(jobs, len(items)) <= 1:
        yield from map(function, items)
        return
    # spawned: a fork of a process with SimpleITK's threads may hang
    pool = ProcessPoolExecutor(min(jobs, len(items)), mp_context=get_context("spawn"))
    try:
        for task in as_completed([pool.submit(function, item) for item in items]):
            yield task.result()
    except BrokenProcessPool as error:
        raise ValueError(
            "A process was ended from outside, perhaps for want of memory; run the same command with fewer --jobs: what"
            " is done is kept."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)
