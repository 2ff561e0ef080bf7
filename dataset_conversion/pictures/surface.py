"""Photographs of a surface, some with a defect: a crack or a pit; seams and stains are none.

The surface is smooth noise of several scales with a tint and a light of its own, so that no threshold finds a defect.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.ndimage import fourier_gaussian, gaussian_filter

SMALLEST = 32
"""Pixels an edge: in a smaller image a crack is no line any more."""
NOISE = 4.0
"""Standard deviation of the camera's noise, grey values of 0 to 255."""
Field = NDArray[np.float64]
Photograph = NDArray[np.uint8]


def smooth(rng: np.random.Generator, size: int, share: float) -> Field:
    """A field (size, size) of zero mean and unit variance, smooth over ``share`` of the edge."""
    spectrum = np.fft.fft2(rng.standard_normal((size, size)))  # a wide kernel costs nothing there
    field = np.fft.ifft2(fourier_gaussian(spectrum, share * size)).real
    return (field - field.mean()) / field.std()


def _drawn(size: int, points: list[tuple[float, float]], width: float) -> Field:
    """A line through points (x, y), 0 to 1, soft at its edges."""
    image = Image.new("L", (size, size))
    line = [(x * size, y * size) for x, y in points]
    ImageDraw.Draw(image).line(line, fill=255, width=max(1, round(width * size)), joint="curve")
    return gaussian_filter(np.asarray(image) / 255.0, size / 512 + 0.3)


def _crack(rng: np.random.Generator, size: int) -> Field:
    """A walk that keeps its direction, about."""
    x, y = rng.uniform(0.25, 0.75, 2)
    angle = rng.uniform(0, 2 * np.pi)
    points = [(x, y)]
    for _ in range(int(rng.integers(10, 18))):
        angle += rng.normal(0, 0.45)
        x, y = x + 0.04 * np.cos(angle), y + 0.04 * np.sin(angle)
        points.append((x, y))
    return -60.0 * _drawn(size, points, rng.uniform(0.010, 0.018))


def _pit(rng: np.random.Generator, size: int) -> Field:
    """A hole with a lit rim on one side."""
    x, y = rng.uniform(0.2, 0.8, 2)
    radius = rng.uniform(0.025, 0.05)
    down, right = np.mgrid[:size, :size] / size
    hole = np.hypot(right - x, down - y) < radius
    rim = np.hypot(right - x - 0.4 * radius, down - y - 0.4 * radius) < radius
    return gaussian_filter(-70.0 * hole + 45.0 * (rim & ~hole), size / 512 + 0.3)


def _seam(rng: np.random.Generator, size: int) -> Field:
    """A straight joint from edge to edge, wide and pale: no defect."""
    start, end = rng.uniform(0, 1, 2)
    points = [(0.0, start), (1.0, end)] if rng.random() < 0.5 else [(start, 0.0), (end, 1.0)]
    return -25.0 * _drawn(size, points, 0.03)


def _stain(rng: np.random.Generator, size: int) -> Field:
    """A soft dark patch: no defect."""
    x, y = rng.uniform(0.1, 0.9, 2)
    down, right = np.mgrid[:size, :size] / size
    return -30.0 * np.exp(-((right - x) ** 2 + (down - y) ** 2) / rng.uniform(0.01, 0.03))


def photograph(rng: np.random.Generator, size: int, defect: bool) -> Photograph:
    """Photograph (size, size, 3) of a surface."""
    grey = 150 + 10 * smooth(rng, size, 0.15) + 7 * smooth(rng, size, 0.02) + 12 * smooth(rng, size, 0.4)
    for innocent in (_seam, _stain):
        if rng.random() < 0.5:
            grey += innocent(rng, size)
    if defect:
        grey += (_crack if rng.random() < 0.6 else _pit)(rng, size)
    tint = rng.uniform(0.88, 1.06, 3)
    colour = grey[..., None] * tint + NOISE * rng.standard_normal((size, size, 3))
    found: Photograph = np.clip(np.rint(colour), 1, 255).astype(np.uint8)
    return found
