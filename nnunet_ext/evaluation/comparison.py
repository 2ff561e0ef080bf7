"""From evaluated trainings to the tables of a comparison.

The long table has one row for each run, case, region and metric, with the columns of ``COLUMNS``; everything else is
computed from it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
import pandas as pd

from nnunet_ext.evaluation.claims import compare_all
from nnunet_ext.evaluation.epochs import epochs_of
from nnunet_ext.evaluation.intervals import Interval, mean_interval
from nnunet_ext.evaluation.ranking import Ranking, rank
from nnunet_ext.evaluation.runs import Run
from nnunet_ext.evaluation.scores import Scores
from nnunet_ext.evaluation.variance import Components, components

COLUMNS = ("run", "method", "seed", "fold", "case", "region", "metric", "value", "note")
LOWER_IS_BETTER = ("HD95", "lesionwise_HD95", "lesions_fp", "lesions_fn")
SHARES = ("Dice", "lesionwise_Dice", "NSD", "precision", "recall", "specificity")  # from 0 to 1
BRATS_REGIONS = ("WT", "TC", "ET")
COMPARED = ("Dice", "HD95_pooled")  # what verdicts are given for; all metrics are in the tables
RANKED = ("Dice", "HD95_pooled")  # as in the challenge
Parts = Mapping[tuple[str, str], Scores]
"""Region and metric -> scores of all methods."""


@dataclass(frozen=True)
class Evaluated:
    """One run with the table of its evaluation (case, region, metric, value, note)."""

    run: Run
    name: str
    table: pd.DataFrame


def long_table(evaluated: Iterable[Evaluated]) -> pd.DataFrame:
    """``integrated_experiment_results.csv``."""
    parts = [
        one.table.assign(run=one.name, method=one.run.method, seed=one.run.seed, fold=one.run.fold) for one in evaluated
    ]
    return pd.concat(parts, ignore_index=True)[list(COLUMNS)].astype({"seed": "Int64"})


def epochs_table(evaluated: Iterable[Evaluated]) -> pd.DataFrame:
    """``all_epochs_results.csv``: one row for each run and epoch."""
    rows = [
        {"run": one.name, "method": one.run.method, "seed": one.run.seed, "fold": one.run.fold, **epoch}
        for one in evaluated
        for epoch in epochs_of(one.run.folder)
    ]
    return pd.DataFrame(rows).astype({"seed": "Int64"}) if rows else pd.DataFrame(columns=["run", "method", "epoch"])


def scores_of(table: pd.DataFrame, region: str, metric: str) -> Scores:
    """The scores of all methods in one region and metric, seeds in the order of their numbers.

    Raises:
        ValueError: the methods were not evaluated on the same cases.
    """
    chosen = table[(table["region"] == region) & (table["metric"] == metric)]
    keys = ["method", "seed", "fold", "case"]
    by = chosen.assign(seed=chosen["seed"].fillna(-1)).set_index(keys)["value"].unstack(["fold", "case"])
    methods = tuple(dict.fromkeys(table["method"]))
    values = [by.loc[method].to_numpy(float) for method in methods]
    if len({v.shape for v in values}) > 1 or np.isnan(values).any():
        raise ValueError(
            f"{metric} of {region} has no value {_lacking(by)}; compare trainings with the same splits, evaluated with "
            f"a convention that gives every case a value (brats, brats2023)."
        )
    folds = pd.factorize(by.columns.get_level_values("fold"))[0]
    return Scores(np.stack(values), folds, methods, not metric.startswith(LOWER_IS_BETTER))


def _lacking(values: pd.DataFrame) -> str:
    """Which case a method has no value for, for people; the columns are fold and case."""
    empty = values.isna().to_numpy()
    if not empty.any():
        return "for every seed of every method"
    row, column = np.argwhere(empty)[0]
    (method, _), (fold, case) = values.index.tolist()[row], values.columns.tolist()[column]
    more = int(empty[row].sum()) - 1
    return f"of {method} for {case} of fold {fold}" + (f" and {more} further cases" if more else "")


def parts_of(table: pd.DataFrame) -> Parts:
    """The scores by region and metric, of those metrics that have a finite value in every row.

    Raises:
        ValueError: the methods were not evaluated on the same cases.
    """
    finite = table.assign(known=np.isfinite(table["value"])).groupby(["region", "metric"], sort=False)["known"].all()
    if not finite.any():
        raise ValueError("No metric has a finite value in every case; evaluate with another --convention.")
    return {(str(region), str(metric)): scores_of(table, region, metric) for region, metric in finite[finite].index}


def method_table(parts: Parts) -> pd.DataFrame:
    """One row for each method, region and metric: mean, its interval, and what seeds, folds and cases spread."""
    rows: list[dict[str, Any]] = []
    for (region, metric), scores in parts.items():
        for method in scores.methods:
            values = scores.of(method)
            interval = _possible(mean_interval(values, scores.cases_of_folds), metric)
            spread = asdict(components(values, scores.cases_of_folds))
            spread = {f"sd_{name}": value for name, value in spread.items()}
            size = {"seeds": scores.n_seeds, "folds": len(scores.cases_of_folds), "cases": values.shape[1]}
            rows.append({"method": method, "region": region, "metric": metric, **asdict(interval), **spread, **size})
    unknown = ["low", "high", *(f"sd_{part.name}" for part in fields(Components))]
    return pd.DataFrame(rows).astype(dict.fromkeys(unknown, float))  # where no row knows it as well


def _possible(interval: Interval, metric: str) -> Interval:
    """Cut at the values that the metric can have; with few seeds the interval may reach beyond."""
    if interval.low is None or interval.high is None:
        return interval
    highest = 1.0 if metric.startswith(SHARES) else float("inf")
    return replace(interval, low=max(interval.low, 0.0), high=min(interval.high, highest))


def regions_of(table: pd.DataFrame) -> list[str]:
    """The regions that are compared and shown: BraTS's where the table has them, else all."""
    found = list(dict.fromkeys(table["region"]))
    return [region for region in BRATS_REGIONS if region in found] or found


def verdicts(parts: Parts, regions: Sequence[str], reference: str | None = None) -> pd.DataFrame:
    """One row for each pair of methods, compared region and metric."""
    chosen = {key: scores for key, scores in parts.items() if key[0] in regions and key[1] in COMPARED}
    return pd.DataFrame(
        [
            {"region": region, "metric": metric, **asdict(comparison)}
            for (region, metric), comparison in compare_all(chosen, reference)
        ]
    )


def ranking(parts: Parts, regions: Sequence[str]) -> Ranking:
    """The challenge's, over the given regions."""
    kept = {key: scores for key, scores in parts.items() if key[1] in RANKED and key[0] in regions}
    return rank({f"{region} {metric}": scores for (region, metric), scores in kept.items()})


def ranking_table(found: Ranking) -> pd.DataFrame:
    """One row a method, the best first."""
    low, high = found.interval().T
    rows = {"method": found.methods, "mean_rank": found.mean_ranks, "low": low, "high": high, "first": found.first()}
    return pd.DataFrame(rows).sort_values("mean_rank", ignore_index=True)


def sentences(table: pd.DataFrame) -> list[str]:
    """What may be said, for people: one sentence for each row of the verdicts that says something, or why none."""
    if table.empty:
        return ["There is one method only; nothing is compared."]
    refused = sorted({verdict for verdict in table["verdict"] if verdict.startswith("no verdict")})
    if refused:
        return [_why_none(verdict, table) for verdict in refused]
    claims = table[table["verdict"].isin(["better", "worse"])]
    said = [_claim(row) for row in claims.to_dict("records")]
    open_rows = table[table["verdict"] == "no difference shown"]
    if not open_rows.empty:
        detectable = open_rows.groupby("metric")["detectable"].median()
        found = ", ".join(f"{value:.3g} in {metric}" for metric, value in detectable.items())
        said.append(
            f"{len(open_rows)} of {len(table)} comparisons show no difference; with these seeds, folds and cases one "
            f"of about {found} would have been found four times in five."
        )
    return said


def _why_none(verdict: str, table: pd.DataFrame) -> str:
    smallest = table["false_claim"].min()
    if verdict.endswith("one seed"):
        return (
            "No verdict between methods is possible: with one seed a difference between methods cannot be told from a "
            "difference between two trainings of one method; train each with further seeds (`..._seed2`). The cases "
            f"alone would leave a probability of {smallest:.2g} or more of a false claim."
        )
    return "No verdict between methods is possible: a fold has one case only, which tells nothing of their spread."


def _claim(row: dict[Any, Any]) -> str:
    better, worse = (row["first"], row["second"]) if row["verdict"] == "better" else (row["second"], row["first"])
    sign = 1 if row["verdict"] == "better" else -1
    low, high = sorted((sign * row["low"], sign * row["high"]))
    return (
        f"{row['region']} {row['metric']}: {better} is better than {worse} by {abs(row['difference']):.3g} "
        f"(95 % interval {low:.3g} to {high:.3g}, p = {row['p_holm']:.2g} after Holm)."
    )
