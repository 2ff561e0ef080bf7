"""Pictures of case-level results: predicted against true, confusion, ROC, and the metric of each with its interval."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nnunet_ext.evaluation.charts import DPI, OKABE_ITO, broken, lines_of
from nnunet_ext.outcomes.cases import Predictions
from nnunet_ext.outcomes.columns import SURVIVAL, Column
from nnunet_ext.outcomes.honest import Drawn, Fold, primary_of
from nnunet_ext.outcomes.results import TEST
from nnunet_ext.whole import aside

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_SHOWN = 6
"""Methods that get a panel; the tables hold all."""


def column_picture(drawn: Drawn, methods: Sequence[str], baselines: Sequence[str], path: Path) -> None:
    """The picture of one column: intervals of all methods and baselines, and a panel for each of the first methods.

    Args:
        drawn: the draws.
        methods: names, the best first.
        baselines: names.
        path: of the PNG.
    """
    from matplotlib.figure import Figure

    shown = list(methods)[:MOST_SHOWN]
    columns = min(len(shown), 3)
    rows = -(-len(shown) // columns)
    top = 0.8 + (0.18 + 0.14 * lines_of([*methods, *baselines])) * (len(methods) + len(baselines))
    figure = Figure(figsize=(max(4.4 * columns, 7), top + 3.9 * rows), layout="constrained", dpi=DPI)
    upper, lower = figure.subfigures(2, 1, squeeze=False, height_ratios=[top, 3.9 * rows]).ravel()
    _intervals(upper.subplots(), drawn, methods, baselines)
    for axis, method in zip(lower.subplots(rows, columns, squeeze=False).ravel(), shown, strict=False):
        _panel(axis, drawn.column, drawn.folds, method)
    for axis in lower.axes[len(shown) :]:
        axis.set_visible(False)
    _save(figure, path)


def _intervals(axis: "Axes", drawn: Drawn, methods: Sequence[str], baselines: Sequence[str]) -> None:
    metric = primary_of(drawn.column, drawn, methods)
    names = [*methods, *baselines][::-1]
    for place, name in enumerate(names):
        found = drawn.interval(name, metric)
        color = "0.45" if name in baselines else OKABE_ITO[0]
        if not np.isnan(found.low):
            axis.plot([found.low, found.high], [place, place], color=color, linewidth=2)
        axis.plot(found.value, place, "s" if name in baselines else "o", color=color, markersize=6)
    axis.set_yticks(range(len(names)), [broken(name) for name in names], fontsize=8)
    axis.set_ylim(-0.6, len(names) - 0.4)
    unit = f" ({drawn.column.unit})" if metric.scale is None and drawn.column.unit else ""
    axis.set_xlabel(f"{metric.name}{unit}: mean over folds, interval of 95 %; baselines grey", fontsize=9)
    axis.set_title(drawn.column.name, fontsize=11)
    _plain(axis)


def _panel(axis: "Axes", column: Column, folds: Sequence[Fold], method: str) -> None:
    axis.set_title(broken(method), fontsize=9)
    if not column.is_discrete:
        _scatter(axis, column, folds, method)
    elif len(column.levels) == 2 and all(p.probability is not None for f in folds for p in f.methods[method]):
        _roc(axis, column, folds, method)
    else:
        _confusion(axis, column, folds, method)


def _scatter(axis: "Axes", column: Column, folds: Sequence[Fold], method: str) -> None:
    """Predicted against true, a colour for each fold; censored cases are open, with an arrow to what is possible."""
    both = [np.concatenate([getattr(f.methods[method][0], n) for f in folds]) for n in ("truth", "prediction")]
    low, high = min(map(np.min, both)), max(map(np.max, both))
    room = 0.05 * (high - low or 1)
    limits = (low - room, high + room)
    axis.plot(limits, limits, color="0.6", linewidth=1)
    for place, fold in enumerate(folds):
        _points(axis, fold.methods[method][0], OKABE_ITO[place % 7], _label(fold))
    for cut in column.cuts:
        axis.axvline(cut, color="0.8", linewidth=0.8)
        axis.axhline(cut, color="0.8", linewidth=0.8)
    unit = f" ({column.unit})" if column.unit else ""
    censored = ", open: censored" if column.kind == SURVIVAL else ""
    axis.set(xlim=limits, ylim=limits, aspect="equal")
    axis.set_xlabel(f"true{unit}{censored}", fontsize=9)
    axis.set_ylabel(f"predicted{unit}", fontsize=9)
    _plain(axis)
    axis.legend(fontsize=7, frameon=False)


def _label(fold: Fold) -> str:
    return "external test" if fold.name == TEST else f"fold {fold.name}"


def _points(axis: "Axes", found: Predictions, color: str, label: str) -> None:
    seen = ~found.censored.astype(bool)
    has = ~np.isnan(found.lower)
    reach = np.abs(np.stack([found.prediction - found.lower, found.upper - found.prediction]))[:, has]
    axis.errorbar(found.truth[has], found.prediction[has], reach, fmt="none", ecolor=color, alpha=0.35, linewidth=1)
    axis.plot(found.truth[seen], found.prediction[seen], "o", color=color, markersize=4, label=label)
    axis.plot(found.truth[~seen], found.prediction[~seen], ">", markerfacecolor="none", color=color, markersize=5)


def _roc(axis: "Axes", column: Column, folds: Sequence[Fold], method: str) -> None:
    """A curve for each fold, never one of the pooled predictions."""
    axis.plot([0, 1], [0, 1], color="0.6", linewidth=1)
    for place, fold in enumerate(folds):
        found = fold.methods[method][0]
        assert found.probability is not None
        if len(np.unique(found.truth)) == 2:
            axis.plot(*roc_curve(found), color=OKABE_ITO[place % 7], linewidth=1.5, label=_label(fold))
    axis.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axis.set_xlabel("false positive rate", fontsize=9)
    axis.set_ylabel(f"true positive rate of {column.levels[1]}", fontsize=9)
    _plain(axis)
    if len(axis.lines) > 1:  # else no fold has cases of both levels
        axis.legend(fontsize=7, frameon=False, loc="lower right")


def roc_curve(found: Predictions) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates of two levels, by falling threshold."""
    from sklearn.metrics import roc_curve as curve

    assert found.probability is not None
    false, true, _ = curve(found.truth, found.probability[:, 1], drop_intermediate=False)
    return false, true


def _confusion(axis: "Axes", column: Column, folds: Sequence[Fold], method: str) -> None:
    """Counts of the first seed over all folds, shaded by the share of the true level."""
    counts = counts_of(column, folds, method)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for i, j in np.ndindex(counts.shape):
        axis.text(j, i, str(counts[i, j]), ha="center", va="center", color="white" if shares[i, j] > 0.6 else "black")
    axis.set_xticks(range(len(column.levels)), column.levels, fontsize=8)
    axis.set_yticks(range(len(column.levels)), column.levels, fontsize=8)
    axis.set_xlabel("predicted", fontsize=9)
    axis.set_ylabel("true", fontsize=9)


def counts_of(column: Column, folds: Sequence[Fold], method: str) -> np.ndarray:
    """(L, L) cases of the first seed: a row for each true level, a column for each predicted one."""
    counts = np.zeros((len(column.levels),) * 2, int)
    for fold in folds:
        found = fold.methods[method][0]
        np.add.at(counts, (found.truth.astype(int), found.prediction.astype(int)), 1)
    return counts


def _plain(axis: "Axes") -> None:
    axis.set_axisbelow(True)
    axis.grid(color="0.92", linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)


def _save(figure: "Figure", path: Path) -> None:
    with aside(path) as partial:
        figure.savefig(partial, format="png")
