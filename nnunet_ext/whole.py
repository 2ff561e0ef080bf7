"""Files that are there whole or not at all: written aside, then renamed."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def aside(path: Path) -> Iterator[Path]:
    """Gives a hidden name in the same folder, with the same ending, to write to; renamed if nothing is raised.

    The folder is made where it is missing. What an interrupted block has written is removed, and ``path`` stays as it
    was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".partial-{os.getpid()}-{path.name}")  # processes may write one file
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a file of UTF-8 whole or not at all."""
    with aside(path) as partial:
        partial.write_text(text, encoding="utf-8")


@contextmanager
def folder_aside(target: Path) -> Iterator[Path]:
    """Gives an empty hidden folder beside another, for files that the block moves into place when all are there.

    It is gone after the block. Its name is always the same, so that the next run sweeps up after one that was killed.
    """
    folder = target.absolute().with_name(f".{target.absolute().name}.partial")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
