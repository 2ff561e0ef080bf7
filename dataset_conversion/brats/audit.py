"""The audit of one case: everything that would make training fail, or worse, succeed on wrong data."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dataset_conversion.brats.discovery import Case
from dataset_conversion.brats.editions import SEGMENTATION, Edition
from dataset_conversion.brats.record import Problem, Report
from dataset_conversion.brats.volumes import Volume, VolumeError, decode, read_bytes, unpack

SPACING_TOLERANCE = 1e-3
"""Millimetres between the voxel sizes of two files of a case."""
ORIGIN_TOLERANCE = 1e-2
"""Millimetres between the origins."""
DIRECTION_TOLERANCE = 1e-3
"""Difference of direction cosines; also what an axis may deviate from a right angle, which SimpleITK checks."""


class Geometry(NamedTuple):
    """Voxels along (x, y, z), voxel size and origin in mm, direction cosines as columns."""

    shape: tuple[int, ...]
    spacing: NDArray[np.float64]
    origin: NDArray[np.float64]
    direction: NDArray[np.float64]


def _geometry(volume: Volume) -> Geometry:
    """Geometry of a 3D volume.

    Raises:
        VolumeError: if it is not 3D, or its axes have no length or no right angles.
    """
    shape = volume.values.shape
    if len(shape) != 3:
        raise VolumeError(f"has {len(shape)} dimensions {shape}, expected 3", "export it as one volume")
    axes = volume.affine[:3, :3]
    spacing = np.linalg.norm(axes, axis=0)
    if not np.isfinite(volume.affine).all() or not (spacing > 0).all():
        raise VolumeError("has no valid geometry in its header", "copy the header of another modality of the case")
    direction = axes / spacing
    if np.abs(direction.T @ direction - np.eye(3)).max() > DIRECTION_TOLERANCE:
        raise VolumeError("has axes that are not at right angles, which nnU-Net's reader refuses", "resample it")
    return Geometry(shape, spacing, volume.affine[:3, 3], direction)


def _differences(geometry: Geometry, first: Geometry) -> Iterator[str]:
    """Say in which respects ``geometry`` is not that of the case's first file."""
    if geometry.shape != first.shape:
        yield f"has the shape {geometry.shape}, the case's first image {first.shape}"
    tolerances = {"spacing": SPACING_TOLERANCE, "origin": ORIGIN_TOLERANCE, "direction": DIRECTION_TOLERANCE}
    for name, tolerance in tolerances.items():
        here, there = getattr(geometry, name), getattr(first, name)
        if np.abs(here - there).max() > tolerance:
            numbers = [np.round(values, 4).ravel().tolist() for values in (here, there)]
            yield f"has the {name} {numbers[0]}, the case's first image {numbers[1]} (tolerance {tolerance})"


def _check_image(volume: Volume) -> Iterator[Problem]:
    """Find what is wrong with the voxels of an image."""
    values = volume.values
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        yield Problem("has voxels that are NaN or infinite", "export it again or set them to 0")
    middle = values[..., values.shape[-1] // 2]  # shows a brain, which saves looking at the whole volume
    if not middle.any() and not values.any():
        yield Problem("is zero everywhere", "download or export it again")


def _count_labels(values: NDArray[Any], edition: Edition) -> dict[int, int]:
    """Voxels of each of the edition's labels.

    Raises:
        VolumeError: if there are other values.
    """
    voxels = {label: int(np.count_nonzero(values == label)) for label in edition.labels}
    if sum(voxels.values()) == values.size:
        return voxels
    others = np.unique(values[~np.isin(values, list(voxels))])
    legal = ", ".join(map(str, voxels))
    if others.dtype.kind == "f" and not (others == np.rint(others)).all():
        raise VolumeError(
            f"has values that are no whole numbers, such as {others[others != np.rint(others)][0]}",
            f"export the segmentation with the labels {legal}, without interpolation",
        )
    shown = ", ".join(str(int(value)) for value in others[:5])
    raise VolumeError(
        f"has the labels {shown}, but {edition.name} has only {legal}",
        f"find out what they mean and map them; {edition.doubt}",
    )


class _Auditor:
    """Reads the files of one case one after the other and notes what it finds."""

    def __init__(self, edition: Edition) -> None:
        self.edition = edition
        self.first: Geometry | None = None
        self.digest = hashlib.sha256()
        self.voxels: dict[int, int] = {}

    def check(self, path: Path, kind: str) -> Iterator[Problem]:
        """Find the problems of one file."""
        try:
            data = read_bytes(path)
            self.digest.update(data)
            volume = decode(unpack(data, path))
        except VolumeError as error:
            yield Problem(error.text, error.remedy)
            return
        for check in (self._check_geometry, self._check_labels if kind == SEGMENTATION else _check_image):
            try:
                yield from check(volume)
            except VolumeError as error:
                yield Problem(error.text, error.remedy)

    def _check_geometry(self, volume: Volume) -> Iterator[Problem]:
        geometry = _geometry(volume)
        if self.first is None:
            self.first = geometry
        for text in _differences(geometry, self.first):
            yield Problem(text, "register or resample it to the others, or download the case again")

    def _check_labels(self, volume: Volume) -> Iterator[Problem]:
        self.voxels = _count_labels(volume.labels(), self.edition)
        yield from ()


def audit_case(case: Case, kinds: tuple[str, ...], edition: Edition) -> Report:
    """Audit the files of a case that are there once: voxels per label, checksum, every problem."""
    auditor = _Auditor(edition)
    problems = []
    for kind in (kind for kind in kinds if len(case.files.get(kind, ())) == 1):
        path = case.files[kind][0]
        problems += [p._replace(case=case.name, file=path.name) for p in auditor.check(path, kind)]
    labels = edition.labels
    voxels = {labels[label]: number for label, number in auditor.voxels.items()}
    return Report(voxels, auditor.digest.hexdigest(), problems)
