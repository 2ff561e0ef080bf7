"""NIfTI volumes: read whole and checked to the last byte, changed without touching their geometry."""

import gzip
import math
import zlib
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from dataset_conversion.brats.discovery import ending_of
from dataset_conversion.brats.files import write_whole

CODEC = import_module("isal.isal_zlib" if find_spec("isal") else "zlib")
"""ISA-L is at least twice as fast as zlib, where it is installed; both verify the checksum."""
GZIP_MAGIC = b"\x1f\x8b"
GZIP_LEVEL = 1
GZIP_FORMAT = 31  # as zlib's "window bits"
LARGEST_BUFFER = 2**28  # bytes to begin with: the end of a damaged file may state anything


class VolumeError(Exception):
    """A file is no sound volume: ``text`` says what is wrong with it, ``remedy`` what to do."""

    def __init__(self, text: str, remedy: str) -> None:
        super().__init__(text, remedy)
        self.text, self.remedy = text, remedy


class Volume(NamedTuple):
    """``values`` in the file's axis order (x, y, z) and own type, ``affine`` (4, 4) voxel -> mm, NIfTI ``header``."""

    values: NDArray[Any]
    affine: NDArray[np.float64]
    header: Any


def read_bytes(path: Path) -> bytes:
    """Read a file whole.

    Raises:
        VolumeError: if it cannot be read or is empty.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise VolumeError(f"cannot be read ({error.strerror})", "check the link or the permissions") from error
    if not data:
        raise VolumeError("is empty", "download or copy it again")
    return data


def unpack(data: bytes, path: Path) -> bytes:
    """Decompress what was read from ``path`` if its name says so; the gzip checksum is verified.

    Raises:
        VolumeError: if the data are damaged or not what the name says.
    """
    if ending_of(path) == ".nii":
        if data.startswith(GZIP_MAGIC):
            raise VolumeError("is compressed, against its name", "rename it to .nii.gz")
        return data
    if not data.startswith(GZIP_MAGIC):
        raise VolumeError("is no gzip data, against its name", "download it again, or rename it if it is a .nii file")
    try:
        return _decompress(data)
    except (CODEC.error, zlib.error, EOFError, gzip.BadGzipFile) as error:
        raise VolumeError(f"is damaged ({error})", "download or copy it again") from error


def _decompress(data: bytes) -> bytes:
    """Decompress gzip data into one buffer of the size that their end states: growing it costs more than inflating."""
    stated = int.from_bytes(data[-4:], "little")
    raw = CODEC.decompress(
        data, GZIP_FORMAT, min(stated + 1, LARGEST_BUFFER)
    )  # + 1: ISA-L sees the end without growing
    return bytes(raw) if len(raw) == stated else gzip.decompress(data)  # several members: each states its own size


def decode(raw: bytes) -> Volume:
    """Decode an uncompressed NIfTI file; voxels keep their type, unless the header scales them (then float32).

    Raises:
        VolumeError: if it is no NIfTI-1 file of real numbers or its data are short.
    """
    try:
        header = nib.Nifti1Header(raw[: nib.Nifti1Header.sizeof_hdr])
        shape, dtype = header.get_data_shape(), header.get_data_dtype()
        if dtype.kind not in "iuf":
            raise VolumeError(f"has voxels of the type {dtype}, which are no real numbers", "export it as a grey image")
        start, count = int(header.get_data_offset()), math.prod(shape)
        values = np.frombuffer(raw, dtype, count, start).reshape(shape, order="F")  # no copy
        slope, offset = header.get_slope_inter()
    except (HeaderDataError, WrapStructError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise VolumeError(f"is no whole NIfTI-1 file ({reason})", "download it or export it again") from error
    if (slope or 1, offset or 0) != (1, 0):
        values = (values * slope + offset).astype(np.float32)
    return Volume(values, header.get_best_affine(), header)


def read_volume(path: Path) -> Volume:
    """Read a volume; see :func:`unpack` and :func:`decode` for the errors."""
    return decode(unpack(read_bytes(path), path))


def pack(raw: bytes, target: Path) -> None:
    """Write an uncompressed file as the name ``target`` asks, whole or not at all, without a time stamp."""
    compressed = ending_of(target) == ".nii.gz"
    write_whole(target, CODEC.compress(raw, GZIP_LEVEL, GZIP_FORMAT) if compressed else raw)


def write_values(values: NDArray[Any], header: Any, target: Path) -> None:
    """Write ``values`` (x, y, z) with the geometry and all else of ``header`` but its data type and scaling."""
    image = nib.Nifti1Image(values, None, header)  # without an affine nibabel leaves qform and sform as they are
    image.header.set_data_dtype(values.dtype)
    pack(image.to_bytes(), target)


def relabel(source: Path, target: Path, labels: dict[int, int]) -> None:
    """Write the label map ``source`` with each label (0-255) replaced, as 8-bit numbers, geometry kept."""
    volume = read_volume(source)
    before = volume.values.astype(np.uint8)
    after = before.copy(order="K")
    for old, new in labels.items():
        if old != new:
            after[before == old] = new
    write_values(after, volume.header, target)


def recompress(source: Path, target: Path) -> None:
    """Write ``source`` as ``target``, compressed or not as its name says; not a byte of the image changes."""
    pack(unpack(read_bytes(source), source), target)


def clip(source: Path, target: Path, low: float, high: float) -> None:
    """Write ``source`` with its non-zero voxels clipped to their percentiles ``low`` and ``high``; zeros stay.

    A percentile is a value that occurs in the image (the inverse of the empirical distribution function), so that
    integers stay integers.
    """
    values, _, header = read_volume(source)
    values = values.copy()
    brain = values != 0
    inside = values[brain]
    limits = np.percentile(inside, [low, high], method="inverted_cdf")
    values[brain] = np.clip(inside, *limits)
    write_values(values, header, target)
