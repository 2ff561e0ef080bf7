"""The labels of a segmentation over an image, in the same colours in all pictures."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

LABELS = {"necrosis": "#e45756", "oedema": "#54a24b", "enhancing": "#f2cf5b"}  # labels 1, 2, 3


def show_labels(axis: Any, mask: NDArray[Any]) -> None:
    """Draws the labels (Y, X) of a slice on an axis of matplotlib."""
    from matplotlib.colors import ListedColormap

    colours = ListedColormap(list(LABELS.values()))
    axis.imshow(np.ma.masked_equal(mask, 0), cmap=colours, vmin=1, vmax=3, alpha=0.6, origin="lower")


def patches() -> list[Any]:
    """The labels for a legend."""
    from matplotlib.patches import Patch

    return [Patch(color=colour, label=name) for name, colour in LABELS.items()]
