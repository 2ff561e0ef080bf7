"""NIfTI volumes: read whole and checked to the last byte, changed without touching their geometry."""

import gzip
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from dataset_conversion.brats.discovery import ending_of
from dataset_conversion.brats.files import write_whole

GZIP_LEVEL = 6


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
        if data.startswith(b"\x1f\x8b"):
            raise VolumeError("is compressed, against its name", "rename it to .nii.gz")
        return data
    try:
        return gzip.decompress(data)
    except gzip.BadGzipFile as error:
        raise VolumeError(f"is damaged or not gzip data ({error})", "download or copy it again") from error
    except (EOFError, zlib.error) as error:
        raise VolumeError("is damaged: its compressed data end early or are wrong", "download it again") from error


def decode(raw: bytes) -> Volume:
    """Decode an uncompressed NIfTI file; voxels keep their type, unless the header scales them (then float32).

    Raises:
        VolumeError: if it is no NIfTI-1 file of real numbers or its data are short.
    """
    try:
        image = nib.Nifti1Image.from_bytes(raw)
        if image.get_data_dtype().kind not in "iuf":
            kind = image.get_data_dtype()
            raise VolumeError(f"has voxels of the type {kind}, which are no real numbers", "export it as a grey image")
        values = np.asanyarray(image.dataobj)
    except (ImageFileError, HeaderDataError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise VolumeError(f"is no whole NIfTI-1 file ({reason})", "download it or export it again") from error
    if values.dtype != image.get_data_dtype():  # the header scales them; double precision would only cost memory
        values = values.astype(np.float32)
    return Volume(values, image.affine, image.header)


def read_volume(path: Path) -> Volume:
    """Read a volume; see :func:`unpack` and :func:`decode` for the errors."""
    return decode(unpack(read_bytes(path), path))


def pack(raw: bytes, target: Path) -> None:
    """Write an uncompressed file as the name ``target`` asks, whole or not at all, without a time stamp."""
    compressed = ending_of(target) == ".nii.gz"
    write_whole(target, gzip.compress(raw, GZIP_LEVEL, mtime=0) if compressed else raw)


def write_values(values: NDArray[Any], header: Any, target: Path) -> None:
    """Write ``values`` (x, y, z) with the geometry and all else of ``header`` but its data type and scaling."""
    image = nib.Nifti1Image(values, None, header)  # without an affine nibabel leaves qform and sform as they are
    image.header.set_data_dtype(values.dtype)
    pack(image.to_bytes(), target)


def relabel(source: Path, target: Path, labels: dict[int, int]) -> None:
    """Write the label map ``source`` with each label replaced, as 8-bit numbers, geometry kept."""
    volume = read_volume(source)
    table = np.zeros(256, np.uint8)
    table[list(labels)] = list(labels.values())
    write_values(table[volume.values.astype(np.uint8)], volume.header, target)


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
