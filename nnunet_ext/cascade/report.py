"""What the cascade did with a case, for people who must be able to trust it."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from logging import Logger, getLogger
from math import prod
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.inference.sliding_window_prediction import compute_steps_for_sliding_window
from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape
from numpy.typing import NDArray

from nnunet_ext.cascade.components import MM3_PER_ML, TOO_MANY, TOO_SMALL, Component, Crops
from nnunet_ext.cascade.geometry import as_lists, dilate, shift, to_image
from nnunet_ext.images.folder import named
from nnunet_ext.whole import write_text

LOG = getLogger(__name__)
FOLDER, SUMMARY = "cascade", "cascade_summary.json"  # the latter beside the folder, in which a case may have any name
NO_CASE = "the image"
SUMMED = ("crops", "network_passes", "detector_passes", "voxels_computed", "voxels_sliding_window")


@dataclass
class CaseReport:
    """One case; ``facts`` is what is written."""

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    patch_size: tuple[int, ...]
    crop_size: tuple[int, ...]
    step: float
    passes_per_tile: int
    detector_passes: int
    order: Sequence[int]
    seconds: dict[str, float] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, predictor: Any, shape: tuple[int, ...]) -> "CaseReport":
        """For a volume of this shape (Z, Y, X) and the predictor that works on it."""
        plan, small = predictor.configuration_manager, predictor.detector.configuration_manager
        small_shape = compute_new_shape(shape, plan.spacing, small.spacing)
        return cls(
            shape,
            tuple(plan.spacing),
            tuple(plan.patch_size),
            predictor.crop_size,
            predictor.tile_step_size,
            passes_per_tile(predictor),
            passes_per_tile(predictor.detector) * tiles(small_shape, small.patch_size, predictor.tile_step_size),
            predictor.plans_manager.transpose_backward,
        )

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Adds the time of what runs within."""
        start = time.perf_counter()
        yield
        self.seconds[step] = self.seconds.get(step, 0) + time.perf_counter() - start

    def add(self, mask: NDArray[np.bool_], components: Sequence[Component], crops: Crops | None) -> None:
        """Records what was found and computed; without crops it was the plain sliding window."""
        size = self.crop_size if crops else self.patch_size
        window = tiles(self.shape, self.patch_size, self.step)
        count = len(crops.boxes) if crops else window
        offset = [-o for o in crops.offset] if crops else []
        self.facts = {
            "shape": list(self.shape),
            "spacing_mm": list(self.spacing),
            "roi_ml": round(float(mask.sum() * prod(self.spacing) / MM3_PER_ML), 4),
            "components": [c.as_dict() for c in (crops.components if crops else components)],
            "crop_size": list(size),
            "crop_boxes": [as_lists(shift(box, offset)) for box in crops.boxes] if crops else [],
            "crops": len(crops.boxes) if crops else 0,
            "network_passes": count * self.passes_per_tile,
            "detector_passes": self.detector_passes,
            "voxels_computed": count * self.passes_per_tile * prod(size),
            "voxels_sliding_window": window * self.passes_per_tile * prod(self.patch_size),
            "fallback": "" if crops else _why(components),
        }

    def locate(self, properties: Mapping[str, Any]) -> None:
        """Adds the boxes in the image as it was read (z, y, x), from nnU-Net's properties of the case."""
        cropped = properties["shape_after_cropping_and_before_resampling"]
        scale = [n / m for n, m in zip(cropped, self.shape, strict=True)]
        first = [int(low) for low, _ in properties["bbox_used_for_cropping"]]
        shape = [properties["shape_before_cropping"][axis] for axis in self.order]

        def located(box: Sequence[Sequence[int]]) -> list[list[int]]:
            ends = zip(box, self.shape, strict=True)  # a crop may be larger than the volume
            within = tuple(slice(max(start, 0), min(stop, n)) for (start, stop), n in ends)
            return as_lists(dilate(to_image(within, scale, first, self.order), (0, 0, 0), shape))

        for component in self.facts["components"]:
            component["image_box"] = located(component["box"])
        self.facts["crop_image_boxes"] = [located(box) for box in self.facts["crop_boxes"]]

    def tell(self, log: Logger, case: str = NO_CASE) -> None:
        """Says what a user must not miss of a case."""
        if self.facts["fallback"]:
            told = "%s: %s; the whole volume is segmented by the plain sliding window."
            log.warning(told, case, self.facts["fallback"])
            return
        for reason in (TOO_MANY, TOO_SMALL):
            dropped = [c["ml"] for c in self.facts["components"] if c.get("dropped") == reason]
            if dropped:
                told = "%s: %d components, together %.3g ml, get no crop: %s."
                log.warning(told, case, len(dropped), sum(dropped), reason)

    def write(self, path: Path) -> None:
        """Writes ``<folder>/cascade/<case>.json`` for the case of a truncated output path."""
        seconds = {step: round(value, 3) for step, value in self.seconds.items()}
        _write(path.parent / FOLDER / f"{path.name}.json", {"case": path.name, **self.facts, "seconds": seconds})


def tiles(shape: Sequence[int], patch: Sequence[int], step: float) -> int:
    """How many tiles nnU-Net's sliding window has over a volume."""
    padded = tuple(max(n, p) for n, p in zip(shape, patch, strict=True))
    return prod(len(s) for s in compute_steps_for_sliding_window(padded, tuple(patch), step))


def passes_per_tile(predictor: nnUNetPredictor) -> int:
    """Passes through a network for one tile: folds and mirrored forms."""
    axes = predictor.allowed_mirroring_axes if predictor.use_mirroring else None
    return len(predictor.list_of_parameters) * 2 ** len(axes or ())


def summarise(folder: Path) -> dict[str, Any]:
    """Writes ``<folder>/cascade_summary.json`` from all cases that are there, those of earlier runs included."""
    records = {path: _record(path) for path in sorted((folder / FOLDER).glob("*.json"))}
    if others := [path.name for path, record in records.items() if record is None]:
        LOG.warning("%s: no reports of the cascade, so left out of the summary: %s.", folder / FOLDER, named(others))
    cases = [record for record in records.values() if record is not None]
    steps = dict.fromkeys(step for c in cases for step in c["seconds"])
    fewer = [c["voxels_sliding_window"] / c["voxels_computed"] for c in cases]
    summary = {
        "cases": len(cases),
        "fallbacks": {c["case"]: c["fallback"] for c in cases if c["fallback"]},
        "dropped": {c["case"]: ml for c in cases if (ml := [o["ml"] for o in c["components"] if "dropped" in o])},
        **{key: sum(c[key] for c in cases) for key in SUMMED},
        "median_fewer_voxels": round(median(fewer), 3) if fewer else None,
        "seconds": {step: round(sum(c["seconds"].get(step, 0) for c in cases), 3) for step in steps},
    }
    _write(folder / SUMMARY, summary)
    return summary


def _record(path: Path) -> dict[str, Any] | None:
    """A case's report; None for a file of somebody else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError):
        return None
    needed = {"case", "fallback", "components", "seconds", *SUMMED}
    return found if isinstance(found, dict) and needed <= found.keys() else None


def _why(components: Sequence[Component]) -> str:
    if not components:
        return "the detector finds no tumour"
    return f"the detector's {len(components)} components are all {components[0].dropped}"


def _write(path: Path, record: Mapping[str, Any]) -> None:
    lines = (f" {json.dumps(key)}: {json.dumps(value)}" for key, value in record.items())
    write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")
