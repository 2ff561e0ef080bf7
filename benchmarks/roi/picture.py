"""One slice of a case: what the detector found, the crops, and what came out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.overlay import patches, show_labels
from nnunet_ext.cascade.predictor import nnUNetCascadePredictor

ROI, CROP, BOX = "#4c78a8", "#ffffff", "#72b7b2"
FLAIR = 3


def draw(name: str, data: torch.Tensor, truth: NDArray[Any], predictor: nnUNetCascadePredictor, path: Path) -> None:
    """Saves a picture of the axial slice with most tumour.

    Args:
        name: of the case.
        data: preprocessed (C, Z, Y, X).
        truth: labels (Z, Y, X).
        predictor: of the cascade, with both models.
        path: PNG file.
    """
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    z = int(np.count_nonzero(truth, axis=(1, 2)).argmax())
    roi = (predictor.tumor_probability(data) > predictor.settings.roi_threshold).numpy()
    logits = predictor.predict_logits_from_preprocessed_data(data)
    found = np.asarray(predictor.label_manager.convert_logits_to_segmentation(logits))
    facts = predictor.reports[-1].facts
    figure, axes = plt.subplots(1, 3, figsize=(11, 4.2), layout="constrained")
    for axis, title, mask in zip(
        axes, ("ROI, boxes with margin, crops", "cascade", "truth"), (None, found, truth), strict=True
    ):
        axis.imshow(data[FLAIR, z], cmap="gray", origin="lower")
        axis.set_title(title)
        axis.set_axis_off()
        if mask is not None:
            show_labels(axis, mask[z])
    axes[0].contourf(roi[z], levels=[0.5, 1.5], colors=[ROI], alpha=0.5)
    for component in facts["components"]:
        _show_box(axes[0], component["box"], z, BOX, ":")
    for axis in axes[:2]:
        for box in facts["crop_boxes"]:
            _show_box(axis, box, z, CROP, "-")
    _legend(figure)
    fewer = facts["voxels_sliding_window"] / facts["voxels_computed"]
    figure.suptitle(f"{name}, axial slice {z}; crops: {facts['crops']}; {fewer:.1f} times fewer voxels", fontsize=10)
    figure.savefig(path, dpi=100)


def _show_box(axis: Any, box: Sequence[Sequence[int]], z: int, colour: str, style: str) -> None:
    from matplotlib.patches import Rectangle

    (first, last), (bottom, top), (left, right) = box
    if first <= z < last:
        size = (right - left, top - bottom)
        axis.add_patch(Rectangle((left - 0.5, bottom - 0.5), *size, fill=False, color=colour, linestyle=style))


def _legend(figure: Any) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    lines = [Line2D([], [], color="#888888", label="crop"), Line2D([], [], color=BOX, linestyle=":", label="box")]
    figure.legend(handles=[Patch(color=ROI, label="ROI"), *patches(), *lines], loc="outside lower center", ncols=6)
