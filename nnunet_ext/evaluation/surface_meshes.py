"""Surfaces of regions for the report: marching cubes, simplified until a page can hold many of them."""

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FACES = 700  # of a region; a page shows a shape, not voxels
STEPS_PER_MM = 20  # coordinates are kept as whole steps: 0.05 mm


@dataclass(frozen=True)
class Mesh:
    """A surface.

    Attributes:
        vertices: (V, 3), z, y, x in mm.
        faces: (F, 3), indices of vertices.
    """

    vertices: NDArray[np.float64]
    faces: NDArray[np.int64]

    def as_plain(self) -> dict[str, Any]:
        """For JSON: whole numbers of two bytes in base64, positions in steps of 1 / ``STEPS_PER_MM`` mm."""
        steps = np.rint(self.vertices * STEPS_PER_MM)
        assert np.abs(steps).max(initial=0) < 2**15, "a volume of more than 1.6 m"
        assert self.faces.max(initial=0) < 2**16, "simplified surfaces have fewer vertices"
        return {"v": _base64(steps.astype("<i2")), "f": _base64(self.faces.astype("<u2"))}


def mesh_of(mask: NDArray[np.bool_], spacing: tuple[float, ...], origin: tuple[float, ...] = (0, 0, 0)) -> Mesh | None:
    """The surface of a region, or None if it has no voxel.

    Args:
        mask: (Z, Y, X).
        spacing: mm along z, y, x.
        origin: mm, of the centre of voxel (0, 0, 0).
    """
    if not mask.any():
        return None
    from fast_simplification import simplify
    from skimage.measure import marching_cubes

    # a margin of background closes the surface where the region touches the border
    vertices, faces, _, _ = marching_cubes(np.pad(mask, 1).astype(np.float32), 0.5, spacing=spacing)
    vertices = vertices - np.asarray(spacing) + np.asarray(origin)
    if len(faces) > FACES:
        vertices, faces = simplify(vertices.astype(np.float32), faces.astype(np.int32), 1 - FACES / len(faces))
    return Mesh(vertices.astype(float), faces.astype(np.int64))


def _base64(values: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()
