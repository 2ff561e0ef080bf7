"""Reading checkpoints without running anything that they contain.

A pickle may call any function while it is read, and a checkpoint is a pickle. torch's ``weights_only`` unpickler builds
tensors and plain values alone; what nnU-Net's own checkpoints hold beyond these is the list ``ALLOWED``.
"""

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

# nnU-Net saves losses and Dice as NumPy numbers, other scripts their best score; rebuilding them runs nothing
ALLOWED: tuple[Any, ...] = (
    np.dtype,
    np.dtypes.Float16DType,
    np.dtypes.Float32DType,
    np.dtypes.Float64DType,
    np.dtypes.Int32DType,
    np.dtypes.Int64DType,
    *((np.float64().__reduce__()[0], f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
)
UNSUPPORTED = re.compile(r"GLOBAL (\S+)")  # in torch's message: the name that the file asks for


class UnreadableCheckpointError(ValueError):
    """A file that is no checkpoint, a truncated one, or one that asks for code to be run."""


def read_safely(path: Path | str, *, mapped: bool = False) -> Any:
    """What ``torch.save`` wrote, on the CPU.

    Args:
        path: of the file.
        mapped: leave tensors in the file until they are used; it must stay as long as they do.

    Raises:
        UnreadableCheckpointError: the file is truncated, no such file, or contains more than data; none of it was run.
    """
    if not Path(path).is_file():
        raise UnreadableCheckpointError(f"There is no file {path}.")
    try:
        with torch.serialization.safe_globals(list(ALLOWED)):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        asked = UNSUPPORTED.search(str(error))
        what = f"asks for {asked[1]} to be called" if asked else "contains more than data or is damaged"
        raise UnreadableCheckpointError(f"{path} {what}; it was not read and nothing of it was run.") from error
    except (
        Exception
    ) as error:  # foreign bytes make the unpickler fail in any way (KeyError, EOFError, RuntimeError ...)
        raise UnreadableCheckpointError(
            f"{path} is no checkpoint that torch saved, or is cut short; copy it again ({_first_line(error)})."
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(".") or type(error).__name__
