"""The audit of one case: everything that would make training fail, or worse, succeed on wrong data."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataset_conversion.brats.discovery import Case
from dataset_conversion.brats.editions import SEGMENTATION, Edition
from dataset_conversion.brats.geometry import Geometry, compare_files, compare_readers, read_by_nibabel, read_by_nnunet
from dataset_conversion.brats.problem import Problem
from dataset_conversion.brats.record import Report
from dataset_conversion.brats.volumes import Volume, VolumeError, decode, read_bytes, unpack


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
        self.scans: dict[str, str] = {}
        self.voxels: dict[int, int] = {}
        self.warnings: list[Problem] = []

    def check(self, path: Path, kind: str) -> Iterator[Problem]:
        """Find the problems of one file; what is only to be told goes to ``warnings``."""
        try:
            data = read_bytes(path)
            self.digest.update(data)
            raw = unpack(data, path)
            volume = decode(raw)
        except VolumeError as error:
            yield Problem(error.text, error.remedy)
            return
        if kind != SEGMENTATION:
            self.scans[kind] = hashlib.sha256(np.ascontiguousarray(volume.stored.T).data).hexdigest()
        for check in (self._check_geometry, self._check_labels if kind == SEGMENTATION else self._check_image):
            try:
                yield from check(volume, raw)
            except VolumeError as error:
                yield Problem(error.text, error.remedy)

    def _check_geometry(self, volume: Volume, raw: bytes) -> Iterator[Problem]:
        nibabels = read_by_nibabel(volume)
        geometry = read_by_nnunet(raw, volume)
        problems, warnings = compare_readers(geometry, nibabels)
        self.warnings += warnings
        yield from problems
        if self.first is None:
            self.first = geometry
        yield from compare_files(geometry, self.first)

    def _check_image(self, volume: Volume, _: bytes) -> Iterator[Problem]:
        return _check_image(volume)

    def _check_labels(self, volume: Volume, _: bytes) -> Iterator[Problem]:
        self.voxels = _count_labels(volume.labels(), self.edition)
        yield from ()


def audit_case(case: Case, kinds: tuple[str, ...], edition: Edition) -> Report:
    """Audit the files of a case that are there once: voxels per label, checksums, grid, every problem."""
    auditor = _Auditor(edition)
    problems: list[Problem] = []
    warnings: list[Problem] = []
    for kind in (kind for kind in kinds if len(case.files.get(kind, ())) == 1):
        path = case.files[kind][0]
        problems += [p._replace(case=case.name, file=path.name) for p in auditor.check(path, kind)]
        warnings += [p._replace(case=case.name, file=path.name) for p in auditor.warnings]
        auditor.warnings.clear()
    labels = edition.labels
    voxels = {labels[label]: number for label, number in auditor.voxels.items()}
    grid = _grid(auditor.first) if auditor.first else ""
    return Report(voxels, auditor.digest.hexdigest(), problems, warnings, auditor.scans, grid)


def _grid(geometry: Geometry) -> str:
    """Voxel order and spacing, such as ``LPS, 1 x 1 x 1 mm``, to be compared across cases."""
    return f"{geometry.order}, {' x '.join(f'{size:.3g}' for size in geometry.spacing)} mm"
