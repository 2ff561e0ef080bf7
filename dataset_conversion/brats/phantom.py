"""Phantom brains with tumours: what a network can learn from, and no patient.

A brain is a noisy ellipsoid of white matter with a folded grey ribbon, ventricles and fluid in the sulci. A focus of
the tumour is a noisy ball with a core, and the core has a rim that enhances, so that enhancing tumour lies in the core
and the core in the whole tumour by construction. Four contrasts give each tissue a mean; a bias field, noise and a
scale of its own for each case and contrast keep thresholds from solving it, and so do the enhancing vessels and
the bright rims of the ventricles, which are no tumour.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dataset_conversion.brats.outcome import Outcome

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]
Shape = tuple[int, int, int]

CONTRASTS = ("t1", "t1ce", "t2", "flair")
NECROSIS, EDEMA, ENHANCING = 1, 2, 4
"""BraTS labels up to 2021 (Menze 2015, doi:10.1109/TMI.2014.2377694)."""

MINIMUM_EDGE = 16
"""Voxels; in a smaller volume the parts of a tumour vanish."""

MEANS: dict[str, tuple[float, float, float, float]] = {
    # tissue: mean in the order of CONTRASTS, white matter of T1 = 1
    "white": (1.00, 1.00, 0.55, 0.60),
    "grey": (0.75, 0.78, 0.72, 0.75),
    "fluid": (0.35, 0.35, 1.30, 0.25),
    "vessel": (0.85, 1.60, 0.60, 0.70),
    "gliosis": (0.90, 0.90, 0.75, 0.95),
    "edema": (0.68, 0.70, 1.05, 1.25),
    "necrosis": (0.48, 0.42, 1.25, 0.90),
    "enhancing": (0.80, 1.70, 0.90, 1.05),
}
NOISE = 0.06  # standard deviation, in units of MEANS
BIAS = 0.08  # standard deviation of the bias field's logarithm


class Phantom(NamedTuple):
    """One case: ``images`` (4, z, y, x) int16 in the order of CONTRASTS, ``labels`` (z, y, x) uint8, HGG or LGG."""

    images: NDArray[np.int16]
    labels: NDArray[np.uint8]
    grade: str


class Focus(NamedTuple):
    """One focus: centre (z, y, x) and radius in half brains, the core's and the necrosis's share of the radius."""

    centre: Array
    radius: float
    core: float
    necrosis: float


def smooth_field(rng: np.random.Generator, shape: Shape, cells: int) -> Array:
    """Draw a smooth random field of zero mean and unit variance.

    The field is a Gaussian interpolation of ``cells`` random values an axis, contracted one axis after the other.
    """
    field = rng.standard_normal((cells, cells, cells), dtype=np.float32)
    for length in shape:
        distance = np.linspace(0, cells - 1, length)[:, None] - np.arange(cells)[None]
        weights = np.exp(-(distance**2))
        weights /= np.sqrt((weights**2).sum(axis=1, keepdims=True))  # keeps the variance at every voxel
        field = np.tensordot(field, weights.astype(np.float32), axes=(0, 1))  # the next axis comes to the front
    return field


def _ramp(field: Array, width: float) -> Array:
    """Go from 0 to 1 where ``field`` goes from -width to width: a partial volume."""
    return np.clip(field / (2 * width) + 0.5, 0, 1)


def _grid(shape: Shape, rng: np.random.Generator) -> Array:
    """Positions (3, z, y, x) in half brains; the brain's size, place and proportions vary."""
    extent = np.array([0.82, 0.84, 0.68]) * rng.uniform(0.92, 1.04, size=3)
    shift = rng.uniform(-0.04, 0.04, size=3)
    axes = [
        ((np.linspace(-1, 1, length) - move) / size).astype(np.float32)
        for length, move, size in zip(shape, shift, extent, strict=True)
    ]
    return np.stack(np.meshgrid(*axes, indexing="ij"))


def _ventricles(grid: Array, rng: np.random.Generator) -> Array:
    """How deep a voxel lies in one of the two lateral ventricles (positive: inside), in half brains."""
    size = rng.uniform(0.8, 1.3)
    z, y, x = grid
    sides = [np.sqrt((z / 0.22) ** 2 + (y / 0.42) ** 2 + ((x - side) / 0.10) ** 2) for side in (-0.15, 0.15)]
    return (np.float32(size) - np.minimum(*sides)) * np.float32(0.12)


def _healthy(grid: Array, radius: Array, inside: Mask, rng: np.random.Generator) -> dict[str, Array]:
    """Shares (voxels of the brain) of the healthy tissues and their innocent look-alikes of a tumour."""
    shape = grid.shape[1], grid.shape[2], grid.shape[3]
    depth = (1 - radius)[inside]
    folds = smooth_field(rng, shape, 28)[inside]
    ventricle = _ventricles(grid, rng)[inside]
    fluid = np.maximum(_ramp(ventricle, 0.02), _ramp(folds * 0.04 - depth, 0.02))
    grey = (1 - fluid) * _ramp(0.14 + 0.10 * folds - depth, 0.04)
    rim = (1 - fluid) * _ramp(ventricle + 0.03, 0.02) * rng.uniform(0.2, 0.8)
    vessel = (1 - fluid) * _ramp(smooth_field(rng, shape, 20)[inside] - 3.0, 0.2)
    return {"white": np.ones_like(depth), "grey": grey, "fluid": fluid, "gliosis": rim, "vessel": vessel}


def _foci(
    rng: np.random.Generator, number: int, core: float, enhancing: bool, planted: float | None = None
) -> list[Focus]:
    """Draw foci in the white matter; those after the first are smaller and lie on the other side.

    ``planted`` is the radius of the first one where it is not to be drawn.
    """
    side = rng.choice([-1.0, 1.0])
    foci = []
    for index in range(number):
        direction = rng.normal(size=3) * [0.6, 1.0, 0.5]
        direction[2] = side * (1 if index % 2 == 0 else -1) * max(abs(direction[2]), 0.4)
        centre = direction / np.linalg.norm(direction) * rng.uniform(0.35, 0.6)
        radius = rng.uniform(0.32, 0.46) if index == 0 else rng.uniform(0.20, 0.26)
        radius = radius if planted is None or index else planted
        necrosis = rng.uniform(0.45, 0.7) if enhancing else 1.0
        foci.append(Focus(centre.astype(np.float32), radius, core * rng.uniform(0.95, 1.05), necrosis))
    return foci


def _tumour(grid: Array, inside: Mask, foci: list[Focus], rng: np.random.Generator) -> dict[str, Array]:
    """Signed depth (voxels of the brain, half brains; positive: inside) of edema, core and necrosis, all foci."""
    shape = grid.shape[1], grid.shape[2], grid.shape[3]
    outer, inner = (smooth_field(rng, shape, cells)[inside] for cells in (10, 14))
    edema, core, necrosis = (np.full(outer.shape, -1, np.float32) for _ in range(3))
    for focus in foci:
        distance = np.sqrt(sum((axis[inside] - middle) ** 2 for axis, middle in zip(grid, focus.centre, strict=True)))
        whole = focus.radius * (1 + 0.14 * outer) - distance
        heart = focus.radius * focus.core * (1 + 0.10 * inner) - distance
        centre = focus.radius * focus.core * focus.necrosis * (1 + 0.12 * outer) - distance
        np.maximum(edema, whole, out=edema)
        np.maximum(core, np.minimum(whole, heart), out=core)
        np.maximum(necrosis, np.minimum.reduce([whole, heart, centre]), out=necrosis)
    return {"edema": edema, "core": core, "necrosis": necrosis}


def _labels(depths: dict[str, Array], enhancing: bool) -> NDArray[np.uint8]:
    """BraTS labels of the brain's voxels."""
    labels = np.zeros(depths["edema"].shape, np.uint8)
    labels[depths["edema"] > 0] = EDEMA
    labels[depths["core"] > 0] = ENHANCING if enhancing else NECROSIS
    labels[depths["necrosis"] > 0] = NECROSIS
    return labels


def _paint(shares: dict[str, Array], contrast: int) -> Array:
    """Mean signal: each tissue in turn covers its share of what lies below it."""
    signal = np.zeros_like(shares["white"])
    for tissue, share in shares.items():
        signal += share * (np.float32(MEANS[tissue][contrast]) - signal)
    return signal


def _acquire(signal: Array, inside: Mask, rng: np.random.Generator) -> NDArray[np.int16]:
    """Make an image (z, y, x) of the brain's signal: bias, noise, a scale of its own; 0 outside the brain only."""
    shape = inside.shape[0], inside.shape[1], inside.shape[2]
    biased = signal * np.exp(np.float32(BIAS) * smooth_field(rng, shape, 3)[inside])
    noisy = np.abs(biased + np.float32(NOISE) * rng.standard_normal(signal.size, dtype=np.float32))
    image = np.zeros(shape, np.int16)
    image[inside] = np.clip(np.rint(noisy * np.float32(rng.uniform(250, 1000))), 1, None)
    return image


def make_phantom(shape: Shape, seed: int, index: int, outcome: Outcome | None = None) -> Phantom:
    """Make case ``index`` of the set that ``seed`` names, ``shape`` (z, y, x) in voxels of 1 mm.

    In every four cases one is LGG, half of these without enhancing tumour; in every three one is multi-focal: a
    schedule and not a draw, so that small sets have all kinds. With an ``outcome`` the tumour is one of its radius, and
    its core enhances unless it is of low grade.
    """
    rng = np.random.default_rng([seed, index])
    low_grade, enhancing, number = index % 4 == 3, index % 8 != 3, 2 + index % 2 if index % 3 == 1 else 1
    if outcome:
        low_grade, enhancing, number = outcome.low_grade, not outcome.low_grade, 1
    grid = _grid(shape, rng)
    radius = np.sqrt((grid**2).sum(axis=0)) * (1 + np.float32(0.03) * smooth_field(rng, shape, 8))
    inside = radius < 1
    shares = _healthy(grid, radius, inside, rng)
    foci = _foci(rng, number, rng.uniform(0.58, 0.75), enhancing, outcome.radius if outcome else None)
    depths = _tumour(grid, inside, foci, rng)
    soft = 0.03
    shares["edema"] = _ramp(depths["edema"], soft)
    if enhancing:
        shares["enhancing"] = _ramp(depths["core"], soft / 2)
    shares["necrosis"] = _ramp(depths["necrosis"] if enhancing else depths["core"], soft / 2)
    labels = np.zeros(shape, np.uint8)
    labels[inside] = _labels(depths, enhancing)
    images = [_acquire(_paint(shares, contrast), inside, rng) for contrast in range(len(CONTRASTS))]
    return Phantom(np.stack(images), labels, "LGG" if low_grade else "HGG")
