"""Files that are either whole or absent, and links that become copies where they must."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give a temporary path beside ``target`` that takes its place at the end, and never if an error ends the block.

    The temporary name is always the same, so that the next run sweeps up after one that was killed.
    """
    temporary = target.with_name(f".{target.name}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        yield temporary
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(target: Path, data: bytes | bytearray) -> None:
    """Write ``data`` to ``target``: all of it or nothing."""
    with replacing(target) as temporary:
        temporary.write_bytes(data)


def read_json(path: Path) -> Any:
    """Content of a JSON file; ValueError with the file's name if it is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"{path} is no readable JSON ({error}); restore it, or remove it and what it describes."
        ) from error


def is_same(source: Path, target: Path) -> bool:
    """Whether ``target`` is a link to ``source`` or a copy that :func:`link_or_copy` made of it."""
    try:
        there = target.stat()
    except FileNotFoundError:
        return False
    here = source.stat()
    return os.path.samestat(here, there) or (here.st_size, here.st_mtime_ns) == (there.st_size, there.st_mtime_ns)


def link_or_copy(source: Path, target: Path, link: bool) -> bool:
    """Make ``target`` a hard link to ``source``, or a copy where that fails or ``link`` is false; True for a link."""
    with replacing(target) as temporary:
        if link:
            try:
                os.link(source.resolve(), temporary)
            except OSError:  # another file system, a foreign owner, a file system without links: a copy does as well
                link = False
        if not link:
            shutil.copy2(source, temporary)
    return link
