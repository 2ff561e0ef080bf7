"""A few threads that work through a list with a progress bar."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(
    function: Callable[[Item], Result], items: Sequence[Item], jobs: int, description: str
) -> Iterator[Result]:
    """Results of ``function`` for ``items`` from ``jobs`` threads, in the items' order.

    Threads and not processes: inflating, hashing and NumPy leave the interpreter to the others, nothing has to start,
    and memory is that of one process. What has not begun when an error or Ctrl-C ends the loop never begins.
    """
    from concurrent.futures import ThreadPoolExecutor  # late, both: a finished dataset needs neither threads nor a bar

    pool = ThreadPoolExecutor(jobs)
    try:
        results = pool.map(function, items)
        from tqdm import tqdm  # the threads work meanwhile

        yield from tqdm(results, total=len(items), desc=description, unit="case")
    finally:
        pool.shutdown(cancel_futures=True)
