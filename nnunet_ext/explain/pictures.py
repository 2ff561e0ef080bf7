"""Pictures of what was found: contributions as bars, Grad-CAM over the image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nnunet_ext.evaluation.charts import DPI, OKABE_ITO
from nnunet_ext.whole import aside

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEAT = "inferno"
LABELS = {"dice": "Dice", "probability": "mean probability"}


def contributions_picture(contributions: pd.DataFrame, path: Path) -> None:
    """Mean contribution of each modality as bars, every case as a point; a row a value function, a column a region.

    Args:
        contributions: as :func:`.results.contributions_table` gives it.
        path: of the PNG.
    """
    from matplotlib.figure import Figure

    regions, values = (list(dict.fromkeys(contributions[key])) for key in ("region", "value"))
    size = (3.1 * len(regions) + 0.6, 2.7 * len(values) + 0.7)
    figure = Figure(figsize=size, layout="constrained", dpi=DPI)
    axes = figure.subplots(len(values), len(regions), squeeze=False, sharey="row")
    for row, value in zip(axes, values, strict=True):
        for axis, region in zip(row, regions, strict=True):
            chosen = contributions[(contributions["region"] == region) & (contributions["value"] == value)]
            _bars(axis, chosen)
            axis.set_title(region, fontsize=9)
        row[0].set_ylabel(f"contribution to {LABELS.get(value, value)}", fontsize=8)
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    _save(figure, path)


def _bars(axis: "Axes", chosen: pd.DataFrame) -> None:
    modalities, baselines = (list(dict.fromkeys(chosen[key])) for key in ("modality", "baseline"))
    width = 0.8 / len(baselines)
    for k, baseline in enumerate(baselines):
        places = np.arange(len(modalities)) + (k - (len(baselines) - 1) / 2) * width
        of = chosen[chosen["baseline"] == baseline]
        grouped = [of[of["modality"] == m]["shapley"].dropna().to_numpy() for m in modalities]
        heights = [g.mean() if len(g) else 0.0 for g in grouped]
        axis.bar(places, heights, width * 0.92, color=OKABE_ITO[k], alpha=0.75, label=f"baseline {baseline}")
        for place, points in zip(places, grouped, strict=True):
            axis.plot([place] * len(points), points, ".", color="black", markersize=4, alpha=0.6)
    axis.axhline(0, color="black", linewidth=0.8)
    axis.set_xticks(np.arange(len(modalities)), modalities, fontsize=8)
    axis.tick_params(axis="y", labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)


@dataclass(frozen=True)
class Heat:
    """A map over an image, both (Z, Y, X); the map from 0 to 1."""

    name: str
    image: NDArray[np.floating]
    map: NDArray[np.floating]


def overlay(title: str, heats: Sequence[Heat], region: NDArray[np.bool_], path: Path) -> None:
    """One slice of every map over its image, beside the image alone; the region's outline in all of them.

    The slice is that across the first axis with most of the region, or where the maps are largest if it is empty.

    Args:
        title: above all.
        heats: maps on one scale.
        region: (Z, Y, X), what was predicted as the class.
        path: of the PNG.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    index = slice_of(heats, region)
    figure = Figure(figsize=(2.7 * len(heats) + 1.0, 5.6), layout="constrained", dpi=DPI)
    axes = figure.subplots(2, len(heats), squeeze=False)
    for column, heat in zip(axes.T, heats, strict=True):
        for axis in column:
            axis.imshow(heat.image[index], cmap="gray", origin="lower")
            axis.axis("off")
        warm = heat.map[index]
        # where nothing is found the image shines through
        column[1].imshow(warm, cmap=HEAT, vmin=0, vmax=1, alpha=0.8 * warm.clip(0, 1), origin="lower")
        if region[index].any():
            for axis in column:
                axis.contour(region[index].astype(float), levels=[0.5], colors="#56B4E9", linewidths=0.9)
        column[0].set_title(heat.name, fontsize=8)
    scale = ScalarMappable(Normalize(0, 1), HEAT)
    figure.colorbar(scale, ax=axes, shrink=0.5, pad=0.01).ax.tick_params(labelsize=7)
    figure.suptitle(f"{title}, slice {index}", fontsize=9)
    _save(figure, path)


def slice_of(heats: Sequence[Heat], region: NDArray[np.bool_]) -> int:
    """The slice that is shown."""
    per_slice: NDArray[Any] = region.sum((1, 2))
    if not per_slice.any():
        per_slice = np.sum([heat.map.sum((1, 2)) for heat in heats], 0)
    return int(per_slice.argmax())


def _save(figure: Any, path: Path) -> None:
    with aside(path) as partial:
        figure.savefig(partial, format="png", metadata={"Software": None})


def underlays(names: Sequence[str], modalities: Sequence[str], images: NDArray[np.floating]) -> Mapping[str, Any]:
    """What lies beneath each map: the image of the first modality that its name holds, else the last one's.

    Args:
        names: of the maps; a branch's holds its modalities, joined by ``-``.
        modalities: of the dataset, by the networks' names where they have one.
        images: (M, Z, Y, X) in the order of the modalities.
    """
    found = {}
    for name in names:
        index = next((modalities.index(m) for m in name.split("-") if m in modalities), len(modalities) - 1)
        found[name] = images[index]
    return found
