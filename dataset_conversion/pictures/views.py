"""Two views of a body, of which each shows a part of what a value depends on, with age and sex.

The frontal view shows how wide the body is, the lateral view how deep; the value is their weighted sum and what age and
sex add. Each view alone explains a part of it, both and the covariates all but chance.
"""

from typing import NamedTuple

import numpy as np

from dataset_conversion.pictures.surface import NOISE, Field, Photograph, smooth

BASE, PER_WIDTH, PER_DEPTH, PER_YEAR, MALE, CHANCE = 4.0, 6.0, 5.0, 0.04, 0.8, 0.2
"""The value of a narrow flat body of a woman of 50; what full width, full depth, a year and a man add; chance's SD."""
YOUNGEST, OLDEST = 20, 80


class Person(NamedTuple):
    """A patient: age in years, sex (F or M), and the width and depth (0 to 1) around which the examinations vary."""

    age: int
    sex: str
    width: float
    depth: float


class Pair(NamedTuple):
    """An examination: width and depth, 0 to 1, and the value."""

    width: float
    depth: float
    value: float


def person(rng: np.random.Generator) -> Person:
    """Draw a patient."""
    width, depth = rng.uniform(0.15, 0.85, 2)
    return Person(int(rng.integers(YOUNGEST, OLDEST + 1)), "FM"[int(rng.integers(2))], float(width), float(depth))


def pair(rng: np.random.Generator, who: Person) -> Pair:
    """Draw an examination of a patient."""
    width, depth = (float(np.clip(centre + rng.uniform(-0.15, 0.15), 0, 1)) for centre in (who.width, who.depth))
    explained = BASE + PER_WIDTH * width + PER_DEPTH * depth + PER_YEAR * (who.age - 50) + MALE * (who.sex == "M")
    return Pair(width, depth, round(float(explained + CHANCE * rng.standard_normal()), 2))


def view(rng: np.random.Generator, size: int, extent: float, lateral: bool) -> Photograph:
    """Photograph (size, size, 3) of a body of this extent, 0 to 1: across in the frontal view, else along a slope."""
    down, right = np.mgrid[:size, :size] / size
    x, y = rng.uniform(0.45, 0.55, 2)
    angle = np.pi / 4 if lateral else 0.0
    along = np.cos(angle) * (right - x) + np.sin(angle) * (down - y)
    across = -np.sin(angle) * (right - x) + np.cos(angle) * (down - y)
    inside = (along / (0.12 + 0.26 * extent)) ** 2 + (across / 0.2) ** 2
    body: Field = 1 / (1 + np.exp((inside - 1) * 8))
    grey = 60 + 90 * body * (1 + 0.08 * smooth(rng, size, 0.05)) + 8 * smooth(rng, size, 0.3)
    colour = grey[..., None] * rng.uniform(0.92, 1.04, 3) + NOISE * rng.standard_normal((size, size, 3))
    found: Photograph = np.clip(np.rint(colour), 1, 255).astype(np.uint8)
    return found
