"""Small random label volumes in which everything happens that happens to lesions, from a seed each."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.uint8]
NCR, ED, ET = 1, 2, 3


def pair(seed: int) -> tuple[Labels, Labels]:
    """Reference and prediction (z, y, x) with labels 0 to 3 of BraTS 2023, 12 to 32 voxels in each axis."""
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(12, 33, 3))
    reference = _tumours(rng, shape, int(rng.integers(1, 5)))
    return WAYS[seed % len(WAYS)](rng, reference)


def masks(seed: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The whole tumour of :func:`pair`."""
    reference, prediction = pair(seed)
    return reference > 0, prediction > 0


def _tumours(rng: np.random.Generator, shape: tuple[int, ...], count: int) -> Labels:
    """Ellipsoids of edema around enhancing rims around necrosis; some reach the volume's end."""
    labels = np.zeros(shape, np.uint8)
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    for _ in range(count):
        centre, radii = rng.uniform(0, np.array(shape)), rng.uniform(1, 6, 3)
        depth = np.sqrt((((grid - centre) / radii) ** 2).sum(axis=-1))
        for label, part in ((ED, 1.0), (ET, rng.uniform(0.3, 0.9)), (NCR, rng.uniform(0, 0.5))):
            labels[depth < part] = label
    return labels


def _moved(rng: np.random.Generator, reference: Labels) -> tuple[Labels, Labels]:
    return reference, np.roll(reference, tuple(rng.integers(-2, 3, 3)), (0, 1, 2))


def _more(rng: np.random.Generator, reference: Labels) -> tuple[Labels, Labels]:
    return reference, np.maximum(reference, _tumours(rng, reference.shape, int(rng.integers(1, 4))))


def _fewer(rng: np.random.Generator, reference: Labels) -> tuple[Labels, Labels]:
    return _more(rng, reference)[::-1]


def _cut(rng: np.random.Generator, reference: Labels) -> tuple[Labels, Labels]:
    prediction = reference.copy()
    for axis in range(3):
        at = int(rng.integers(0, reference.shape[axis]))
        prediction[(slice(None),) * axis + (slice(at, at + int(rng.integers(1, 3))),)] = 0
    return reference, prediction


def _fused(rng: np.random.Generator, reference: Labels) -> tuple[Labels, Labels]:
    return _cut(rng, reference)[::-1]


def _noise(rng: np.random.Generator, reference: Labels) -> tuple[Labels, Labels]:
    prediction = reference.copy()
    chosen = rng.random(reference.shape) < 0.02
    prediction[chosen] = rng.integers(0, 4, int(chosen.sum()))
    return reference, prediction


def _other(rng: np.random.Generator, reference: Labels) -> tuple[Labels, Labels]:
    return reference, _tumours(rng, reference.shape, int(rng.integers(1, 5)))


def _voxels(rng: np.random.Generator, reference: Labels) -> tuple[Labels, Labels]:
    both = [np.zeros_like(reference), np.zeros_like(reference)]
    for labels in both:
        labels[tuple(rng.integers(0, n) for n in labels.shape)] = rng.integers(1, 4)
    return both[0], both[1]


def _missed(_: np.random.Generator, reference: Labels) -> tuple[Labels, Labels]:
    return reference, np.zeros_like(reference)


def _invented(_: np.random.Generator, reference: Labels) -> tuple[Labels, Labels]:
    return np.zeros_like(reference), reference


def _nothing(_: np.random.Generator, reference: Labels) -> tuple[Labels, Labels]:
    return np.zeros_like(reference), np.zeros_like(reference)


def _equal(_: np.random.Generator, reference: Labels) -> tuple[Labels, Labels]:
    return reference, reference.copy()


WAYS: tuple[Callable[[np.random.Generator, Labels], tuple[Labels, Labels]], ...] = (
    *(_moved, _more, _fewer, _cut, _fused, _noise, _other, _voxels),
    *(_moved, _more, _cut, _noise, _missed, _invented, _nothing, _equal),
)
