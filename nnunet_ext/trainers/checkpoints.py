"""Checkpoints as files: plain in content, whole or absent on disk.

The content has nnU-Net's keys, so that all its commands read it, and below ``PROGRESS`` what only we need. Equal states
give equal bytes: equal strings are one object, and no NumPy number, clock or file name is part of the pickle's form.
"""

import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import torch

from nnunet_ext.trainers.reading import UnreadableCheckpointError, read_safely

FINAL = "checkpoint_final.pth"
LATEST = "checkpoint_latest.pth"
PREVIOUS = "checkpoint_previous.pth"  # the latest but one: used where the latest cannot be read
BEST = "checkpoint_best.pth"
ALL = (FINAL, LATEST, PREVIOUS, BEST)
PARTIAL = ".partial"
EARLIER = ".earlier"
PROGRESS = "nnunet_ext"
REQUIRED = ("network_weights", "init_args", "current_epoch", "logging", "_best_ema", "trainer_name")


def plain(value: Any) -> Any:
    """The value built of Python's own types and tensors alone, equal strings being one object.

    Raises:
        TypeError: a value of another kind, which ``weights_only`` would refuse to read.
    """
    if isinstance(value, Mapping):
        return {plain(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(plain, value))
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist())
    if isinstance(value, str):
        return sys.intern(str(value))
    if value is None or isinstance(value, bool | int | float | torch.Tensor | torch.device | torch.dtype):
        return value
    raise TypeError(f"A checkpoint holds tensors and plain values, not {type(value)}.")


class _Sink:
    """A file that keeps the operating system's error, which torch's writer hides behind one of its own."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.file.flush()


def write(content: Mapping[str, Any], path: Path) -> None:
    """Writes a checkpoint beside ``path``, has it stored on disk, and gives it the name: never a partial file.

    Raises:
        OSError: it could not be written, because the disk is full for example; ``path`` is as it was.
    """
    partial = path.with_name(path.name + PARTIAL)
    try:
        with partial.open("wb") as file:
            _save(content, file)
            file.flush()
            os.fsync(file.fileno())
        if path.name == LATEST and path.exists():
            _keep(path, path.with_name(PREVIOUS))
        os.replace(partial, path)
        _sync_folder(path.parent)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def _save(content: Mapping[str, Any], file: BinaryIO) -> None:
    sink = _Sink(file)
    try:
        torch.save(content, cast(BinaryIO, sink))  # it needs write and flush of a file
    except RuntimeError as error:
        if sink.error is None:
            raise
        raise sink.error from error


def _keep(path: Path, previous: Path) -> None:
    """Gives a file a second name, so that it is never without the first."""
    partial = previous.with_name(previous.name + PARTIAL)
    partial.unlink(missing_ok=True)
    try:
        os.link(path, partial)
    except OSError:  # a file system without hard links
        shutil.copyfile(path, partial)
    os.replace(partial, previous)


def _sync_folder(folder: Path) -> None:
    """Stores the new name; only where folders can be opened, which Windows refuses."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def put_aside(folder: Path) -> list[str]:
    """Renames the checkpoints of an earlier training, so that none is taken for this one's; returns their names."""
    found = [path for name in ALL if (path := folder / name).exists()]
    for path in found:
        os.replace(path, path.with_name(path.stem + EARLIER + path.suffix))
    return [path.name for path in found]


def read(path: Path, weights: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """A checkpoint that fits a network.

    Args:
        path: of the file.
        weights: the network's own, for their names and shapes.

    Raises:
        UnreadableCheckpointError: it cannot be read, is no checkpoint, or that of another network.
    """
    content = read_safely(path)
    if not isinstance(content, dict) or (lacking := [key for key in REQUIRED if key not in content]):
        what = f"lacks {', '.join(lacking)}" if isinstance(content, dict) else f"holds a {type(content).__name__}"
        raise UnreadableCheckpointError(f"{path} is no checkpoint of a training: it {what}.")
    stored = {name.removeprefix("module."): value.shape for name, value in content["network_weights"].items()}
    here = {name: value.shape for name, value in weights.items()}
    if stored != here:
        name = next(name for name in [*here, *stored] if stored.get(name) != here.get(name))
        raise UnreadableCheckpointError(
            f"{path} holds another network ({content['trainer_name']}): {name} is {_shape(stored.get(name))} there and "
            f"{_shape(here.get(name))} here."
        )
    return content


def _shape(shape: Iterable[int] | None) -> str:
    return "absent" if shape is None else "x".join(map(str, shape)) or "a number"


def most_advanced(contents: Iterable[dict[str, Any]]) -> dict[str, Any] | None:
    """The checkpoint with the most steps behind it; None of none."""
    return max(contents, key=lambda c: (c["current_epoch"], c.get(PROGRESS, {}).get("step", 0)), default=None)
