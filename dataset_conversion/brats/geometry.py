"""The geometry of a volume as nnU-Net's reader (SimpleITK) sees it, and as nibabel does: headers can tell two stories.

A NIfTI header states voxel size and place up to three times (pixdim, qform, sform) and a unit of length. SimpleITK
takes the size from pixdim in the stated unit, and the place from the sform if its code is 1 or the qform's is 0, and
from the qform otherwise; nibabel takes all from the sform if it has a code, and knows no unit. So both are asked.
"""

import tempfile
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import SimpleITK
from numpy.typing import NDArray

from dataset_conversion.brats.problem import Problem
from dataset_conversion.brats.volumes import Volume, VolumeError

TOLERANCES = {"spacing": 1e-3, "origin": 1e-2, "direction": 1e-3}
"""Millimetres between voxel sizes and between origins, differences of direction cosines, that are no difference."""
LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])
REMEDY = "find out which is right, and write it into pixdim, qform and sform alike, in mm"

SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)  # what it would warn of is what is checked here


class Geometry(NamedTuple):
    """Voxels along (x, y, z), voxel size and origin in mm, direction cosines as columns; axes right, front, top."""

    shape: tuple[int, ...]
    spacing: NDArray[np.float64]
    origin: NDArray[np.float64]
    direction: NDArray[np.float64]

    @property
    def order(self) -> str:
        """Where the three voxel axes go: L or R, A or P, S or I."""
        affine = np.eye(4)
        affine[:3, :3] = self.direction
        return "".join(nib.orientations.aff2axcodes(affine))

    def differences(self, other: "Geometry", names: tuple[str, ...] = tuple(TOLERANCES)) -> list[str]:
        """Which of ``names`` differ by more than their tolerance."""
        return [
            name
            for name in names
            if not np.abs(getattr(self, name) - getattr(other, name)).max() <= TOLERANCES[name]  # NaN differs
        ]

    def shown(self, name: str) -> list[float]:
        """One of the properties for a message."""
        numbers: list[float] = (np.round(getattr(self, name), 4) + 0.0).ravel().tolist()  # no negative zero
        return numbers


def read_by_nibabel(volume: Volume) -> Geometry:
    """Geometry that nibabel sees; VolumeError if it is not 3D or its axes have no length."""
    shape = volume.values.shape
    if len(shape) != 3:
        raise VolumeError(f"has {len(shape)} dimensions {shape}, expected 3", "export it as one volume")
    axes = volume.affine[:3, :3]
    spacing = np.linalg.norm(axes, axis=0)
    if not np.isfinite(volume.affine).all() or not (spacing > 0).all():
        raise VolumeError("has no valid geometry in its header", "copy the header of another modality of the case")
    return Geometry(shape, spacing, volume.affine[:3, 3], axes / spacing)


def read_by_nnunet(raw: bytes | bytearray, volume: Volume) -> Geometry:
    """Geometry that SimpleITK sees, which nnU-Net reads with; ``raw`` is the uncompressed file.

    The header is given to it in a file of its own: it is small, and a path that is not UTF-8 cannot be given.

    Raises:
        VolumeError: if SimpleITK refuses the header.
    """
    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO("NiftiImageIO")
    with tempfile.TemporaryDirectory() as folder:
        header = Path(folder) / "header.nii"
        header.write_bytes(raw[: int(volume.header.get_data_offset())])
        reader.SetFileName(str(header))
        try:
            reader.ReadImageInformation()
        except RuntimeError as error:
            raise _refusal(str(error)) from error
    spacing = np.array(reader.GetSpacing())
    direction = np.array(reader.GetDirection()).reshape(3, 3) * LPS_TO_RAS[:, None]
    return Geometry(volume.values.shape, spacing, np.array(reader.GetOrigin()) * LPS_TO_RAS, direction)


def _refusal(reason: str) -> VolumeError:
    if "orthonormal" in reason:
        return VolumeError("has axes that are not at right angles, which nnU-Net's reader refuses", "resample it")
    last = reason.strip().splitlines()[-1]
    return VolumeError(f"has a header that nnU-Net's reader refuses ({last})", "export it again")


def compare_readers(ours: Geometry, nibabels: Geometry) -> tuple[list[Problem], list[Problem]]:
    """Problems and warnings where nnU-Net's reading is not nibabel's.

    Another voxel size makes nnU-Net resample wrongly. Another place does not: it is told, with both readings.
    """
    problems = [_two_readings(name, ours, nibabels) for name in ours.differences(nibabels, ("spacing",))]
    warnings = [_two_readings(name, ours, nibabels) for name in ours.differences(nibabels, ("origin", "direction"))]
    return problems, warnings


def _two_readings(name: str, ours: Geometry, nibabels: Geometry) -> Problem:
    return Problem(
        f"has the {name} {ours.shown(name)} for SimpleITK, which nnU-Net reads with, and {nibabels.shown(name)} for "
        f"nibabel",
        REMEDY,
    )


def compare_files(geometry: Geometry, first: Geometry) -> list[Problem]:
    """Problems where a file's geometry is not that of its case's first image."""
    texts = []
    if geometry.shape != first.shape:
        texts.append(f"has the shape {geometry.shape}, the case's first image {first.shape}")
    texts += [
        f"has the {name} {geometry.shown(name)}, the case's first image {first.shown(name)} "
        f"(tolerance {TOLERANCES[name]})"
        for name in geometry.differences(first)
    ]
    return [Problem(text, "register or resample it to the others, or download the case again") for text in texts]
