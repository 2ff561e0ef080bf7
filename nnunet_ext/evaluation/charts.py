"""Pictures of a comparison, from its tables. Colours are Okabe and Ito's, which all kinds of sight tell apart."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from nnunet_ext.whole import aside

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from nnunet_ext.evaluation.ranking import Ranking

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
COSTS = {
    "parameters": ("parameters (M)", 1e6),
    "macs": ("GMACs of one patch", 1e9),
    "pam_training_mib": ("PAM training (GiB)", 1024),
}
DPI = 150


def style(methods: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour and marker of each method, the same in every picture; beyond eight methods the markers tell them apart."""
    pairs = [(OKABE_ITO[i % 8], MARKERS[(i + i // 8) % 8]) for i in range(len(methods))]
    return {method: {"color": c, "marker": m} for method, (c, m) in zip(methods, pairs, strict=True)}


def broken(name: str, width: int = 30) -> str:
    """A name on lines of about so many letters, broken after underscores and spaces."""
    return "\n".join(line.replace("_ ", "_") for line in textwrap.wrap(name.replace("_", "_ "), width))


def lines_of(names: Sequence[str]) -> int:
    """Of how many lines the longest of the broken names is."""
    return max(broken(name).count("\n") + 1 for name in names)


def learning_curves(epochs: pd.DataFrame, path: Path) -> None:
    """Loss and pseudo Dice of every method by epoch: the mean of its runs, and their range as a band."""
    figure, axes = _figure(1, 2, width=11, height=4.2)
    looks = style(list(dict.fromkeys(epochs["method"])))
    for axis, column, label in zip(
        axes, ("val_loss", "ema_pseudo_dice"), ("validation loss", "pseudo Dice, moving average"), strict=True
    ):
        for method, runs in epochs.groupby("method", sort=False):
            by_epoch = runs.groupby("epoch")[column].agg(["mean", "min", "max"]).dropna()
            color = looks[str(method)]["color"]
            axis.plot(by_epoch.index, by_epoch["mean"], color=color, label=str(method), linewidth=1.6)
            axis.fill_between(by_epoch.index, by_epoch["min"], by_epoch["max"], color=color, alpha=0.15, linewidth=0)
        axis.set_xlabel("epoch")
        axis.set_ylabel(label)
    _legend(figure, axes[0], len(looks))
    _save(figure, path)


def model_comparison(models: pd.DataFrame, path: Path, regions: Sequence[str]) -> None:
    """Mean Dice of every method in each region with its interval, and the memory beside it."""
    methods = list(dict.fromkeys(models["method"]))[::-1]
    has_cost = "pam_training_mib" in models
    figure, axes = _figure(
        1,
        len(regions) + has_cost,
        width=3.2 * (len(regions) + has_cost) + 1,
        height=1.4 + (0.27 + 0.15 * lines_of(methods)) * len(methods),
        sharey=True,
    )
    dice = models[models["metric"] == "Dice"].set_index(["region", "method"])
    looks, places = style(methods[::-1]), np.arange(len(methods))
    for axis, region in zip(axes, regions, strict=False):
        for place, method in zip(places, methods, strict=True):
            row = dice.loc[(region, method)]
            error = [[row["mean"] - row["low"]], [row["high"] - row["mean"]]]
            axis.errorbar(row["mean"], place, xerr=np.nan_to_num(error), capsize=3, linestyle="", **looks[method])
        axis.set_xlabel(f"Dice {region}")
    if has_cost:
        memory = models.drop_duplicates("method").set_index("method").loc[methods]
        axes[-1].barh(places - 0.18, memory["pam_training_mib"] / 1024, 0.34, color=OKABE_ITO[0], label="training")
        axes[-1].barh(places + 0.18, memory["pam_inference_mib"] / 1024, 0.34, color=OKABE_ITO[4], label="inference")
        axes[-1].set_xlabel("PAM (GiB)")
        axes[-1].legend(frameon=False, fontsize=8)
    axes[0].set_yticks(places, [broken(method) for method in methods], fontsize=9)
    _save(figure, path)


def parameter_efficiency(models: pd.DataFrame, path: Path, regions: Sequence[str]) -> None:
    """Mean Dice against parameters, MACs and memory; the line joins what nothing is better and cheaper than."""
    figure, axes = _figure(1, len(COSTS), width=4.4 * len(COSTS), height=4.4, sharey=True)
    dice = models[(models["metric"] == "Dice") & models["region"].isin(regions)]
    means = dice.groupby("method", sort=False)[["mean", *COSTS]].mean()
    looks = style(list(means.index))
    for axis, (column, (label, unit)) in zip(axes, COSTS.items(), strict=True):
        for method, row in means.iterrows():
            axis.scatter(row[column] / unit, row["mean"], s=55, label=str(method), **looks[str(method)])
        front = pareto(means[column].to_numpy() / unit, means["mean"].to_numpy())
        axis.plot(*front.T, color="0.5", linewidth=1, zorder=0)
        _log_scale(axis)
        axis.set_xlabel(label)
    axes[0].set_ylabel(f"mean Dice of {', '.join(regions)}")
    _legend(figure, axes[0], len(means))
    _save(figure, path)


def _log_scale(axis: "Axes") -> None:
    """Plain numbers at 1, 2 and 5 instead of powers, which run into each other on a short axis."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())


def pareto(cost: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """(n, 2), cost and gain of what nothing else is both cheaper and better than, by rising cost."""
    order = np.lexsort((-gain, cost))
    best = np.maximum.accumulate(gain[order])
    kept = order[np.concatenate([[True], best[1:] > best[:-1]])]
    return np.stack([cost[kept], gain[kept]], 1)


def critical_difference(found: "Ranking", verdicts: pd.DataFrame, path: Path) -> None:
    """Mean ranks; a bar joins methods between which no difference was shown in any region and metric."""
    from scikit_posthocs import critical_difference_diagram

    p = np.ones((len(found.methods),) * 2)
    places = {method: i for i, method in enumerate(found.methods)}
    for first, second, value in verdicts[["first", "second", "p_holm"]].dropna().itertuples(index=False):
        i, j = places[str(first)], places[str(second)]
        p[i, j] = p[j, i] = min(p[i, j], float(value))
    names = [broken(method) for method in found.methods]
    figure, axes = _figure(1, 1, width=9, height=1.4 + (0.1 + 0.15 * lines_of(found.methods)) * len(names))
    ranks = pd.Series(found.mean_ranks, names)
    palette = {name: look["color"] for name, look in style(names).items()}
    table = pd.DataFrame(p, index=names, columns=names)
    critical_difference_diagram(ranks, table, ax=axes[0], color_palette=palette, label_props={"fontsize": 9})
    axes[0].grid(False)
    axes[0].set_title("mean rank; a bar joins methods without a difference shown", fontsize=10)
    _save(figure, path)


def _figure(rows: int, columns: int, *, width: float, height: float, **options: Any) -> "tuple[Figure, list[Axes]]":
    # a figure of its own, not pyplot's: nothing is left open and no display is asked for
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", dpi=DPI)
    axes = figure.subplots(rows, columns, squeeze=False, **options).ravel().tolist()
    for axis in axes:
        axis.set_axisbelow(True)
        axis.grid(color="0.9", linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _legend(figure: "Figure", axis: "Axes", count: int) -> None:
    handles, names = axis.get_legend_handles_labels()
    labels = [broken(name) for name in names]
    figure.legend(handles, labels, loc="outside lower center", ncols=min(count, 4), frameon=False, fontsize=8)


def _save(figure: "Figure", path: Path) -> None:
    with aside(path) as partial:
        figure.savefig(partial, format="png")
