"""One slice of a case as the reference and every model have it, side by side, with what they disagree on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnunet_ext.evaluation.charts import DPI
from nnunet_ext.evaluation.worst import CaseMasks
from nnunet_ext.whole import aside

# necrosis, oedema, enhancing tumour, resection cavity; further classes of other datasets
CLASS_COLOURS = ("#D55E00", "#009E73", "#F0E442", "#CC79A7", "#56B4E9", "#E69F00")
DISAGREEMENT = "#E8003A"
MOST_COLUMNS = 5


def overlay(masks: CaseMasks, image: NDArray[np.floating] | None, values: dict[str, str], path: Path) -> None:
    """Write the picture.

    Args:
        masks: of the case.
        image: (Z, Y, X), shown beneath; None for black.
        values: method -> what is written above it, such as its Dice.
        path: of the PNG.
    """
    from matplotlib.figure import Figure

    names = [None, *masks.classes]  # the image alone comes first
    columns = min(len(names), MOST_COLUMNS)
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(2.9 * columns, 3.2 * rows + 0.5), layout="constrained", dpi=DPI)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    index = slice_of(masks)
    beneath = np.zeros(masks.classes["reference"].shape[1:]) if image is None else image[index]
    for axis, name in zip(axes, names, strict=False):
        _draw(axis, beneath, masks, name, index)
        title = "image" if name is None else f"{name}\n{values.get(name, '')}".strip()
        axis.set_title(title, fontsize=8)
    for axis in axes:
        axis.axis("off")
    figure.legend(handles=_legend(masks), loc="outside lower center", ncols=5, frameon=False, fontsize=8)
    figure.suptitle(f"{masks.case}, slice {index}", fontsize=9)
    with aside(path) as partial:
        figure.savefig(partial, format="png")


def slice_of(masks: CaseMasks) -> int:
    """The slice across the first axis with most tumour in the reference, or in any mask where it has none."""
    per_slice = (masks.classes["reference"] > 0).sum((1, 2))
    if not per_slice.any():
        per_slice = np.sum([(classes > 0).sum((1, 2)) for classes in masks.classes.values()], 0)
    return int(per_slice.argmax())


def _draw(axis: Any, beneath: NDArray[Any], masks: CaseMasks, name: str | None, index: int) -> None:
    from matplotlib.colors import ListedColormap

    axis.imshow(beneath, cmap="gray", origin="lower")
    if name is None:
        return
    shown = masks.classes[name][index]
    colours = ListedColormap(CLASS_COLOURS[: len(masks.scheme.classes)])
    axis.imshow(
        np.ma.masked_equal(shown, 0), cmap=colours, vmin=1, vmax=len(masks.scheme.classes), alpha=0.55, origin="lower"
    )
    wrong = (shown != masks.classes["reference"][index]).astype(float)
    if wrong.any():
        axis.contour(wrong, levels=[0.5], colors=DISAGREEMENT, linewidths=0.7)


def _legend(masks: CaseMasks) -> Sequence[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    classes = zip(CLASS_COLOURS, masks.scheme.classes, strict=False)
    patches = [Patch(color=colour, label=name) for colour, name in classes]
    return [*patches, Line2D([], [], color=DISAGREEMENT, label="differs from the reference")]
