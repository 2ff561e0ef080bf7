"""One conversion of a dataset at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def alone(target: Path) -> Iterator[None]:
    """Hold the dataset ``target`` for this process; the lock lies beside it and goes with a process that is killed.

    Raises:
        ValueError: if another process converts into it.
    """
    folder = target.parent
    made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f".{target.name}.lock"
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(
            f"Another conversion is writing {target} at this moment; wait for it, or choose another --dataset-id."
        ) from None
    try:
        yield
    finally:
        lock.release()
        _sweep(path, made)


def _sweep(path: Path, made: list[Path]) -> None:
    """Remove the lock's file, and the folders that were made for it if nothing else came into them."""
    try:
        path.unlink(missing_ok=True)
        for folder in made:
            folder.rmdir()
    except OSError:  # another conversion holds it by now, or there is a dataset: both are to stay
        return
