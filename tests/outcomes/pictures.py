"""Small pictures of noise, and a table of pairs of them."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

PAIRS = "case,set,frontal,lateral,patient,value,age\n" + "".join(
    f"c{i},{'test' if i > 5 else 'train'},f/{i}.png,l/{i}.png,p{i // 2},{i},5{i}\n" for i in range(8)
)
PAIRS_SCHEMA: dict[str, Any] = {
    "columns": {"value": {"kind": "regression", "unit": "mm"}},
    "covariates": {"age": {"coding": "z"}},
    "groups": ["patient"],
    "inputs": ["frontal", "lateral"],
}


def picture(path: Path, seed: int, shape: tuple[int, ...] = (12, 10, 3), dtype: Any = np.uint8) -> np.ndarray:
    pixels = np.random.default_rng(seed).integers(1, np.iinfo(dtype).max, shape).astype(dtype)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels
