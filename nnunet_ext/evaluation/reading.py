"""Reading segmentations in the formats that nnU-Net writes."""

import json
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
from isal import igzip, isal_zlib
from numpy.typing import NDArray

ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha", ".gipl", ".tif", ".tiff", ".png", ".bmp")
"""Of the readers of nnU-Net 2.8 (SimpleITKIO, NibabelIO, Tiff3DIO, NaturalImage2DIO)."""
TOLERANCE = 1e-3
HEADER = 348
"""Bytes of a NIfTI-1 header, and the number with which it begins."""
STORED: dict[int, tuple[np.dtype[Any], int]] = {
    2: (np.dtype("u1"), SimpleITK.sitkUInt8),
    4: (np.dtype("<i2"), SimpleITK.sitkInt16),
    8: (np.dtype("<i4"), SimpleITK.sitkInt32),
    512: (np.dtype("<u2"), SimpleITK.sitkUInt16),
}
"""NIfTI's codes of whole numbers, and what SimpleITK calls them."""
FEW = 8
"""The largest label of most segmentations."""


class UnreadableError(Exception):
    """Says in one sentence why a file cannot be evaluated."""


@dataclass(frozen=True)
class Segmentation:
    """Labels and geometry of one file.

    Attributes:
        labels: (Z, Y, X) or (Y, X).
        spacing: mm, in the order of the array's axes.
        origin: of the first voxel, mm (x, y, z).
        direction: cosines, row by row.
    """

    labels: NDArray[np.integer]
    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: tuple[float, ...]


def stem(path: Path) -> str:
    """The file's name without its ending; the whole name if nnU-Net would not read it."""
    return next((path.name[: -len(e)] for e in ENDINGS if path.name.lower().endswith(e)), path.name)


def is_image(path: Path) -> bool:
    """Whether the ending is one that nnU-Net reads."""
    return path.name.lower().endswith(ENDINGS) and not path.name.startswith(".")


def read(path: Path) -> Segmentation:
    """Reads a file of labels.

    Raises:
        UnreadableError: it is damaged, has more than three dimensions, or holds values that are no labels.
    """
    data = check_whole(path)
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        if reader.GetNumberOfComponents() > 1 or reader.GetDimension() > 3:
            raise UnreadableError(
                f"{path.name} has several values a voxel or more than three dimensions; labels have one in 2D or 3D."
            )
        values = _stored(data, reader)
        if values is None:
            values = SimpleITK.GetArrayFromImage(reader.Execute())
    except RuntimeError as error:  # SimpleITK's only kind of error, with its C++ source in it
        raise UnreadableError(f"{path.name} cannot be read: {str(error).strip().splitlines()[-1].strip()}") from error
    labels = _whole_numbers(path, values)
    spacing = reader.GetSpacing()[::-1]
    if path.name.lower().endswith((".tif", ".tiff")):
        spacing = _spacing_beside(path, labels.ndim) or spacing
    return Segmentation(labels, tuple(spacing), reader.GetOrigin(), reader.GetDirection())


def _stored(data: bytes | None, reader: Any) -> NDArray[np.integer] | None:
    """The voxels from the content of a NIfTI file that is unpacked already, as SimpleITK would unpack it again.

    None for what is stored in any other way than whole numbers as they are.
    """
    if data is None or int.from_bytes(data[:4], "little") != HEADER:
        return None
    code, offset = struct.unpack_from("<h", data, 70)[0], int(struct.unpack_from("<f", data, 108)[0])
    if code not in STORED:
        return None
    kind, pixel = STORED[code]
    size = reader.GetSize()
    as_is = pixel == reader.GetPixelID() and offset >= HEADER  # where a scale is to be applied the pixels are real
    if not as_is or len(data) < offset + prod(size) * kind.itemsize:
        return None
    values: NDArray[np.integer] = np.frombuffer(data, kind, prod(size), offset).reshape(size[::-1])
    return values


def difference(reference: Segmentation, prediction: Segmentation) -> str:
    """Why the two cannot be compared voxel by voxel, as the end of a sentence; empty if they can."""
    shapes = reference.labels.shape, prediction.labels.shape
    if shapes[0] != shapes[1]:
        return f"has the shape {_by(shapes[1])} (z, y, x), the reference {_by(shapes[0])}"
    spacings = reference.spacing, prediction.spacing
    if not np.allclose(*spacings, rtol=TOLERANCE, atol=0):
        return f"has voxels of {_by(spacings[1])} mm (z, y, x), the reference of {_by(spacings[0])} mm"
    return ""


def displacement(reference: Segmentation, prediction: Segmentation) -> str:
    """What differs in where the two lie, for people; the voxels are compared all the same."""
    if not np.allclose(reference.direction, prediction.direction, atol=TOLERANCE):
        return "the prediction's axes point elsewhere than the reference's; compared voxel by voxel"
    apart = float(np.linalg.norm(np.subtract(reference.origin, prediction.origin)))
    if apart > 0.1 * min(reference.spacing):
        return f"the prediction's first voxel is {apart:.3g} mm from the reference's; compared voxel by voxel"
    return ""


def check_whole(path: Path) -> bytes | None:
    """Refuses a NIfTI file that ends too early: SimpleITK fills what is missing with 0 and says nothing.

    Returns:
        the file's content, unpacked; None for other formats.
    """
    name = path.name.lower()
    if not name.endswith((".nii", ".nii.gz")):
        return None
    try:
        data = igzip.decompress(path.read_bytes()) if name.endswith(".gz") else path.read_bytes()
    except (EOFError, isal_zlib.IsalError, OSError) as error:  # type: ignore[misc] # isal's stub is wrong
        raise UnreadableError(f"{path.name} cannot be read: it is cut off or damaged ({error}).") from error
    if len(data) < HEADER:
        raise UnreadableError(f"{path.name} cannot be read: it has {len(data)} bytes, less than a NIfTI header.")
    order = "<" if int.from_bytes(data[:4], "little") == HEADER else ">"
    rank, *shape = struct.unpack_from(f"{order}8h", data, 40)
    bits, offset = struct.unpack_from(f"{order}h", data, 72)[0], struct.unpack_from(f"{order}f", data, 108)[0]
    expected = int(offset) + prod(shape[: max(rank, 0)]) * bits // 8
    if int.from_bytes(data[:4], "little" if order == "<" else "big") == HEADER and len(data) < expected:
        raise UnreadableError(f"{path.name} cannot be read: it has {len(data)} bytes of the {expected} in its header.")
    return data


def labels_in(labels: NDArray[np.integer]) -> set[int]:
    """The labels of a volume."""
    if labels.max(initial=0) <= FEW:  # a look at each takes a fraction of the time of a count
        return {label for label in range(FEW + 1) if (labels == label).any()}
    return {int(label) for label in np.flatnonzero(np.bincount(labels.ravel().astype(np.uint16)))}


def _whole_numbers(path: Path, values: NDArray[Any]) -> NDArray[np.integer]:
    if np.issubdtype(values.dtype, np.integer):
        labels = values
    else:
        if not np.isfinite(values).all():
            raise UnreadableError(f"{path.name} holds values that are not finite; labels are whole numbers.")
        labels = values.astype(np.int32)
        if not np.array_equal(labels, values):
            odd = float(values[labels != values].flat[0])
            raise UnreadableError(
                f"{path.name} holds {odd:g}; labels are whole numbers, so it may be an image or resampled."
            )
    low, high = int(labels.min(initial=0)), int(labels.max(initial=0))
    if low < 0 or high > np.iinfo(np.uint16).max:
        raise UnreadableError(f"{path.name} holds {low if low < 0 else high}; labels are from 0 to 65535.")
    return labels


def _spacing_beside(path: Path, dimensions: int) -> tuple[float, ...] | None:
    """What nnU-Net's reader of TIFF finds in a JSON file of the same name."""
    beside = path.parent / f"{stem(path)}.json"
    if not beside.is_file():
        return None
    given = json.loads(beside.read_text(encoding="utf-8")).get("spacing")
    return tuple(map(float, given)) if given and len(given) == dimensions else None


def _by(numbers: tuple[float, ...]) -> str:
    return " x ".join(f"{n:g}" for n in numbers)
