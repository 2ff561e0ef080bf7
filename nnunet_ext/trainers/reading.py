"""Reading checkpoints without running anything that they contain.

A pickle may call any function while it is read, and a checkpoint is a pickle. torch's ``weights_only`` unpickler builds
tensors and plain values alone; what nnU-Net's own checkpoints hold beyond these is the list ``ALLOWED``.
"""

import pickle
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
FORCE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"  # torch's own variable: with 1 nnU-Net's commands read data alone as well


class UnreadableCheckpointError(ValueError):
    """A file that is no checkpoint, a truncated one, or one that asks for code to be run."""


def read_safely(path: Path | str) -> Any:
    """What ``torch.save`` wrote, on the CPU.

    Raises:
        UnreadableCheckpointError: the file is truncated, no such file, or contains more than data; none of it was run.
    """
    try:
        with torch.serialization.safe_globals(list(ALLOWED)):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported" not in str(error) and "weights_only" not in str(error).lower():
            raise UnreadableCheckpointError(f"{path} is damaged ({_first_line(error)}).") from error
        raise UnreadableCheckpointError(
            f"{path} contains more than data, or is damaged, and was not read further: nothing of it was run."
        ) from error
    except (
        Exception
    ) as error:  # foreign bytes make the unpickler fail in any way (KeyError, EOFError, RuntimeError ...)
        raise UnreadableCheckpointError(f"{path} is truncated or no checkpoint ({_first_line(error)}).") from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(".") or type(error).__name__
