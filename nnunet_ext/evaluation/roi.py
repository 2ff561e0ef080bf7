"""What a cascade's ROI costs: the Dice that the voxels outside its crops lose, however good the segmentation is.

``nnUNetv2_predict_cascade`` writes ``cascade/CASE.json`` beside its segmentations; what is read of it stands here once.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_ext.evaluation.reading import UnreadableError
from nnunet_ext.evaluation.surfaces import Mask

FOLDER = "cascade"
BOXES = "crop_image_boxes"
RECALL, CEILING = "ROI_recall", "ROI_Dice"
METRICS = (RECALL, CEILING)


def report_beside(prediction: Path, case: str) -> Path | None:
    """The cascade's report of a case; None where the segmentation does not come from a cascade."""
    path = prediction.parent / FOLDER / f"{case}.json"
    return path if path.is_file() else None


def seen(report: Path, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The voxels (Z, Y, X) that the segmentation network saw; all of them where the cascade fell back to the window.

    Raises:
        UnreadableError: the file is no report of this version's cascade, or one of a volume of another shape.
    """
    boxes = _boxes(report)
    if boxes is None:
        return np.ones(shape, bool)
    found = np.zeros(shape, bool)
    for box in boxes:
        if len(box) != len(shape) or any(not 0 <= a <= b <= n for (a, b), n in zip(box, shape, strict=True)):
            raise UnreadableError(f"{report.name} has the crop {box}, which is not within the image {shape}.")
        found[tuple(slice(a, b) for a, b in box)] = True
    return found


def _boxes(report: Path) -> list[list[list[int]]] | None:
    try:
        facts: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
        return None if facts["fallback"] else facts[BOXES]
    except (ValueError, KeyError, TypeError) as error:
        raise UnreadableError(
            f"{report} is no report of the cascade with {BOXES} ({error!r}); predict again, or move it away."
        ) from error


def limits(reference: Mask, within: Mask) -> dict[str, float]:
    """Share of the reference's voxels that were seen, and the Dice of what is perfect there and empty elsewhere."""
    total = int(np.count_nonzero(reference))
    recall = int(np.count_nonzero(reference & within)) / total if total else 1.0
    return {RECALL: recall, CEILING: 2 * recall / (1 + recall)}
