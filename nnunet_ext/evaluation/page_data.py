"""What the interactive report holds, as plain data, from the tables of a comparison."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from nnunet_ext.evaluation.charts import COSTS, MARKERS, style
from nnunet_ext.evaluation.comparison import sentences
from nnunet_ext.evaluation.surface_meshes import STEPS_PER_MM
from nnunet_ext.evaluation.table import plain

METRICS = {"Dice": 1000, "HD95_pooled": 10}  # shown for each case, kept as whole numbers of 1 / this
MOST_EPOCHS = 150  # points of a learning curve
SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x", "star")
SYMBOLS = dict(zip(MARKERS, SHAPES, strict=True))  # of matplotlib and of plotly


def page_data(
    tables: Mapping[str, pd.DataFrame], regions: Sequence[str], facts: Mapping[str, Any], surfaces: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything that the page shows.

    Args:
        tables: by the names ``results``, ``models``, ``comparisons``, ``ranking``, ``epochs`` and ``runs``.
        regions: shown.
        facts: about the comparison, shown in the head of the page.
        surfaces: case -> name of a method or "reference" -> region -> mesh.
    """
    models = tables["models"]
    methods = list(dict.fromkeys(models["method"]))
    cases, folds, values = _values(tables["results"], methods, regions)
    found = {
        "facts": dict(facts),
        "sentences": sentences(tables["comparisons"]),
        "regions": list(regions),
        "metrics": METRICS,
        "methods": [_method(name, look, models, tables["ranking"]) for name, look in style(methods).items()],
        "summary": _summary(models, methods, regions),
        "cases": cases,
        "folds": folds,
        "values": values,
        "epochs": dict(_curves(tables["epochs"], methods)),
        "comparisons": tables["comparisons"].to_dict("records"),
        "runs": tables["runs"].drop(columns=["recipe", "evaluated_with"], errors="ignore").to_dict("records"),
        "surfaces": dict(surfaces),
        "steps_per_mm": STEPS_PER_MM,
    }
    made: dict[str, Any] = plain(found)
    return made


def _method(name: str, look: Mapping[str, str], models: pd.DataFrame, ranking: pd.DataFrame) -> dict[str, Any]:
    first = models[models["method"] == name].iloc[0]
    rank = ranking[ranking["method"] == name].iloc[0]
    costs = {column: float(first[column]) / unit for column, (_, unit) in COSTS.items() if column in first}
    return {
        "name": name,
        "color": look["color"],
        "symbol": SYMBOLS[look["marker"]],
        "rank": float(rank["mean_rank"]),
        **costs,
    }


def _summary(models: pd.DataFrame, methods: Sequence[str], regions: Sequence[str]) -> dict[str, Any]:
    """Region -> metric -> one of [mean, low, high] for each method."""
    by = {
        (region, metric, method): [float(value) for value in interval]
        for region, metric, method, *interval in models[
            ["region", "metric", "method", "mean", "low", "high"]
        ].to_numpy()
    }
    return {region: {metric: [by[region, metric, m] for m in methods] for metric in METRICS} for region in regions}


def _values(
    results: pd.DataFrame, methods: Sequence[str], regions: Sequence[str]
) -> tuple[list[str], list[str], dict[str, Any]]:
    """Cases, their folds, and region -> metric -> a row of whole numbers for each method: means over the seeds."""
    chosen = results[results["region"].isin(regions) & results["metric"].isin(METRICS)]
    means = chosen.groupby(["region", "metric", "method", "case"])["value"].mean()
    of_case = results.drop_duplicates("case").set_index("case")["fold"].astype(str).sort_index()
    cases = [str(case) for case in of_case.index]
    values = {
        region: {
            metric: [
                np.rint(means.loc[(region, metric, method)].reindex(cases).to_numpy() * scale).astype(int).tolist()
                for method in methods
            ]
            for metric, scale in METRICS.items()
        }
        for region in regions
    }
    return cases, of_case.tolist(), values


def _curves(epochs: pd.DataFrame, methods: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Method -> epochs and [mean, lowest, highest] of its runs, thinned evenly."""
    for method in methods:
        runs = epochs[epochs["method"] == method]
        if runs.empty:
            continue
        numbers = np.unique(runs["epoch"])
        kept = numbers[np.unique(np.linspace(0, len(numbers) - 1, MOST_EPOCHS).astype(int))]
        by_epoch = runs[runs["epoch"].isin(kept)].groupby("epoch")[["val_loss", "ema_pseudo_dice"]]
        shown = {name: part.astype(float).round(4) for name, part in by_epoch.agg(["mean", "min", "max"]).items()}
        curves = {
            column: [shown[column, kind].tolist() for kind in ("mean", "min", "max")]
            for column in ("val_loss", "ema_pseudo_dice")
        }
        yield method, {"epoch": kept.tolist(), **curves}
