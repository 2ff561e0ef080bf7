"""Sets of generated images as ``nnunet_ext targets --images`` reads them."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from dataset_conversion.brats.files import replacing, write_whole
from dataset_conversion.pictures.surface import Photograph, photograph
from dataset_conversion.pictures.views import pair, person, view

CLASSES = ("ok", "defect")
VIEWS = ("frontal", "lateral")
SCHEMA: dict[str, Any] = {
    "format": 1,
    "columns": {"value": {"kind": "regression", "unit": "points", "bands": [0.5, 1.0, 2.0]}},
    "covariates": {"age": {"coding": "z"}, "sex": {"coding": "binary", "levels": ["F", "M"]}},
    "groups": ["patient"],
    "inputs": list(VIEWS),
}
FIELDS = ("case", "patient", "set", *VIEWS, "value", "age", "sex")


def write_defects(out: Path, number: int, size: int, seed: int) -> None:
    """Write ``number`` photographs, every second one with a defect, into a folder for each class."""
    for index in tqdm(range(number), desc="photographs", unit="image"):
        rng = np.random.default_rng([seed, index])
        _save(photograph(rng, size, defect=index % 2 == 1), out / CLASSES[index % 2] / f"{index:05d}.png")


def write_pairs(out: Path, patients: int, pairs: int, test: int, size: int, seed: int) -> None:
    """Write two views of each examination, ``pairs`` of each patient; the last ``test`` patients are for testing.

    The table and the schema are written last.
    """
    rows = []
    for number in tqdm(range(patients), desc="patients", unit="patient"):
        rng = np.random.default_rng([seed, number])
        who = person(rng)
        for examination in range(pairs):
            found, case = pair(rng, who), f"P{number:03d}_{examination}"
            files = [f"{name}/{case}.png" for name in VIEWS]
            _save(view(rng, size, found.width, lateral=False), out / files[0])
            _save(view(rng, size, found.depth, lateral=True), out / files[1])
            kept = "test" if number >= patients - test else "train"
            rows.append([case, f"P{number:03d}", kept, *files, found.value, who.age, who.sex])
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([FIELDS, *rows])
    write_whole(out / "targets.json", (json.dumps(SCHEMA, indent=2) + "\n").encode())
    write_whole(out / "targets.csv", text.getvalue().encode())


def _save(pixels: Photograph, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG", compress_level=1)
