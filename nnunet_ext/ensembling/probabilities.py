"""nnU-Net's files of probabilities (``CASE.npz``, ``CASE.pkl``) and their weighted mean.

C channels (regions, or classes with the background), then the axes of nnU-Net's reader, which are those of the label
maps: z, y, x.
"""

import pickle
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Volume = NDArray[np.float32]
KEY = "probabilities"
SLACK = 1e-3
"""By how much rounding may leave the range from 0 to 1."""
PLAIN = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
    ("collections", "OrderedDict"),
    ("_codecs", "encode"),
}
"""All that nnU-Net's properties are made of beside the kinds that pickle itself knows."""


def shape_of(path: Path) -> tuple[int, ...]:
    """(C, Z, Y, X) from the file's header, without its values; ValueError if it is no such file."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{KEY}.npy") as file:
            version = np.lib.format.read_magic(file)
            header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            return tuple(header(file)[0])
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise _unreadable(path, error) from error


def read(path: Path) -> Volume:
    """(C, Z, Y, X), single precision.

    Raises:
        ValueError: the file is damaged, or holds values that are no probabilities.
    """
    try:
        with np.load(path) as file:
            values: Volume = file[KEY].astype(np.float32, copy=False)
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise _unreadable(path, error) from error
    if values.size and not (values.min() >= -SLACK and values.max() <= 1 + SLACK):  # NaN is neither
        raise ValueError(f"{path} holds values that are not from 0 to 1; expected nnU-Net's --save_probabilities.")
    return values


def _unreadable(path: Path, error: Exception) -> ValueError:
    told = str(error).splitlines()[0] if str(error) else type(error).__name__
    return ValueError(f"{path} cannot be read as nnU-Net's probabilities ({told}); predict the case again.")


def merge(volumes: Iterable[Volume], shares: Iterable[NDArray[np.float32]]) -> Volume:
    """The mean of volumes, weighted by shares that broadcast to them and need not sum to one.

    The sums are nnU-Net's own (``nnunetv2.ensembling``): shares of one give its mean to the last bit.
    """
    pairs = zip(volumes, shares, strict=True)
    volume, divisor = next(pairs)
    total: Volume = volume * divisor
    for volume, share in pairs:
        total += volume * share
        divisor = divisor + share
    total /= divisor
    return total


def shares_of(weights: NDArray[np.float64]) -> NDArray[np.float32]:
    """Weights (M, ...) of M models, in single precision, the largest one 1: then equal ones are exactly 1."""
    scaled: NDArray[np.float32] = (weights / weights.max(axis=0)).astype(np.float32)
    return scaled


# what the standard library says that a pickle may raise beside its own error
DAMAGED = (OSError, EOFError, pickle.UnpicklingError, AttributeError, ImportError, IndexError, KeyError, ValueError)


class _Plain(pickle.Unpickler):
    """Reads plain data and arrays: any other pickle may call any function while it is read."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in PLAIN:
            raise pickle.UnpicklingError(f"it holds {module}.{name}")
        return super().find_class(module, name)


def properties_of(path: Path) -> dict[str, Any]:
    """What nnU-Net's reader said of the image, from the ``CASE.pkl`` beside ``CASE.npz``.

    Raises:
        ValueError: there is none, or it holds more than plain data.
    """
    beside = path.with_suffix(".pkl")
    try:
        with beside.open("rb") as file:
            found: Any = _Plain(file).load()
    except DAMAGED as error:
        raise ValueError(f"{beside} cannot be read as nnU-Net's properties of an image ({error}).") from error
    if not isinstance(found, dict):
        raise ValueError(
            f"{beside} holds no properties of an image but a {type(found).__name__}; predict the case again."
        )
    return found
