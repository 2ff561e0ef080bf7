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

from dataset_conversion.brats.files import write_whole
from dataset_conversion.brats.listing import ending_of

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

    def __str__(self) -> str:
        return f"{self.text}; {self.remedy}"


class Volume(NamedTuple):
    """A decoded volume in the file's axis order (x, y, z).

    Attributes:
        values: what the voxels mean.
        stored: what the file holds of them, in its own type: the same array, unless the header scales the voxels.
        header: the NIfTI header.
    """

    values: NDArray[Any]
    stored: NDArray[Any]
    header: Any

    @property
    def affine(self) -> NDArray[np.float64]:
        """Voxel index -> mm, (4, 4)."""
        return np.asarray(self.header.get_best_affine())

    def labels(self) -> NDArray[Any]:
        """The voxels of a label map; VolumeError if its header scales them, which blurs whole numbers."""
        if self.values is not self.stored:
            raise VolumeError("has voxels that its header scales", "export it without scl_slope and scl_inter")
        return self.values


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
    buffer = min(stated + 1, LARGEST_BUFFER)  # one more, for ISA-L to see the end without growing the buffer
    raw: bytes = CODEC.decompress(data, GZIP_FORMAT, buffer)
    return raw if len(raw) == stated else gzip.decompress(data)  # several members: each states its own size


def decode(raw: bytes | bytearray) -> Volume:
    """Decode an uncompressed NIfTI file without copying its voxels; scaled ones are given as float32 as well.

    Raises:
        VolumeError: if it is no NIfTI-1 file of real numbers or its data are short.
    """
    try:
        header = nib.Nifti1Header(bytes(raw[: nib.Nifti1Header.sizeof_hdr]))
        shape, dtype = header.get_data_shape(), header.get_data_dtype()
        if dtype.kind not in "iuf":
            raise VolumeError(f"has voxels of the type {dtype}, which are no real numbers", "export it as a grey image")
        start, count = int(header.get_data_offset()), math.prod(shape)
        stored = np.frombuffer(raw, dtype, count, start).reshape(shape, order="F")
        slope, offset = header.get_slope_inter()
    except (HeaderDataError, WrapStructError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise VolumeError(f"is no whole NIfTI-1 file ({reason})", "download it or export it again") from error
    if slope is None or (slope, offset) == (1, 0):
        return Volume(stored, stored, header)
    if slope < 0:
        raise VolumeError("has a negative scale in its header", "export it again")
    return Volume((stored * slope + offset).astype(np.float32), stored, header)


def read_volume(path: Path) -> Volume:
    """Read a volume; see :func:`unpack` and :func:`decode` for the errors."""
    return decode(unpack(read_bytes(path), path))


def pack(raw: bytes | bytearray, target: Path) -> None:
    """Write an uncompressed file as the name ``target`` asks, whole or not at all, without a time stamp."""
    compressed = ending_of(target) == ".nii.gz"
    write_whole(target, CODEC.compress(raw, GZIP_LEVEL, GZIP_FORMAT) if compressed else raw)


def relabel(source: Path, target: Path, labels: dict[int, int]) -> None:
    """Write the label map ``source`` with each label replaced; not a byte of the header changes.

    Raises:
        VolumeError: see :func:`unpack`, :func:`decode` and :meth:`Volume.labels`.
    """
    raw = bytearray(unpack(read_bytes(source), source))
    voxels = decode(raw).labels()
    masks = {new: voxels == old for old, new in labels.items() if old != new}  # all, before the first is written
    for new, mask in masks.items():
        voxels[mask] = new
    pack(raw, target)


def recompress(source: Path, target: Path) -> None:
    """Write ``source`` as ``target``, compressed or not as its name says; not a byte of the image changes."""
    pack(unpack(read_bytes(source), source), target)


def clip(source: Path, target: Path, low: float, high: float) -> None:
    """Write ``source`` with its non-zero voxels clipped to their percentiles ``low`` and ``high``; zeros stay.

    A percentile is a value that occurs in the image (the inverse of the empirical distribution function), so that
    integers stay integers.
    """
    raw = bytearray(unpack(read_bytes(source), source))
    volume = decode(raw)
    brain = volume.values != 0
    inside = volume.stored[brain]
    limits = np.percentile(inside, [low, high], method="inverted_cdf")
    volume.stored[brain] = np.clip(inside, *limits)
    pack(raw, target)
