"""The files of an evaluation.

``metrics.csv``: one row for each case, region and metric, with the columns case, region, metric, value, note. A value
is empty where the convention leaves the case out of the mean, ``inf`` where the convention counts so. Distances are in
mm, volumes in ml.

``conventions.csv``: where the conventions disagree: case, region, metric, and a column for each convention.

``summary.json``: settings, means, failures, confusion matrix, disagreements, versions; infinite values are the string
"inf" and missing ones null, for JSON has neither.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from math import isinf, isnan, nan
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nnunet_ext.evaluation.cases import COMPARED, SAME, Settings, as_plain
from nnunet_ext.evaluation.conventions import CONVENTIONS
from nnunet_ext.evaluation.json_files import read_json
from nnunet_ext.whole import write_text

METRICS_FILE, CONVENTIONS_FILE, SUMMARY_FILE = "metrics.csv", "conventions.csv", "summary.json"
COLUMNS = ("case", "region", "metric", "value", "note")
FORMAT = 1
whole = write_text
"""By the name under which other parts have it."""
Record = Mapping[str, Any]


def metrics_of(records: Iterable[Record]) -> pd.DataFrame:
    """The long table, in the order of the records."""
    rows = [
        (record["case"], region, metric, float(value), _note(record, entry["note"]))
        for record in records
        for region, entry in record["regions"].items()
        for metric, value in entry["values"].items()
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def conventions_of(records: Iterable[Record]) -> pd.DataFrame:
    """Where the conventions disagree, with what each says."""
    rows = [
        {"case": record["case"], "region": region, "metric": metric, **given}
        for record in records
        for region, metrics in record["conventions"].items()
        for metric, given in metrics.items()
    ]
    return pd.DataFrame(rows, columns=["case", "region", "metric", *CONVENTIONS])


def summary_of(records: Sequence[Record], settings: Settings, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What ``summary.json`` holds.

    Args:
        records: of all cases.
        settings: with which they were made.
        facts: further entries, such as the command and the versions.
    """
    names = sorted(record["case"] for record in records)
    table = metrics_of(records)
    convention = CONVENTIONS[settings.convention]
    summary = {
        "format": FORMAT,
        "convention": settings.convention,
        "rules": asdict(convention),
        "reference": as_plain(settings.reference),
        "prediction": as_plain(settings.prediction),
        "nsd_tolerances_mm": list(settings.tolerances),
        "et_threshold": settings.et_threshold,
        "cases": len(names),
        "cases_sha256": hashlib.sha256("\n".join(names).encode()).hexdigest(),
        "failures": {record["case"]: record["failure"] for record in records if record["failure"]},
        "notes": {record["case"]: record["note"] for record in records if record["note"]},
        "metrics": means_of(table),
        "confusion": confusion_of(records, settings.reference.classes),
        "disagreements": disagreements_of(conventions_of(records), settings.convention),
        **facts,
    }
    if convention.counts:
        summary["foreground_mean"] = foreground_means(table, settings)
    return summary


def means_of(table: pd.DataFrame) -> dict[str, dict[str, dict[str, float]]]:
    """Region -> metric -> mean, standard deviation (n - 1), number of values, and of those that are left out."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for (region, metric), group in table.groupby(["region", "metric"], sort=False):
        values = group["value"].dropna()
        spread = float(values.std()) if len(values) > 1 and np.isfinite(values).all() else nan
        mean = float(values.mean()) if len(values) else nan
        entry = {"mean": mean, "sd": spread, "n": len(values), "left_out": len(group) - len(values)}
        found.setdefault(str(region), {})[str(metric)] = entry
    return found


def confusion_of(records: Iterable[Record], classes: Sequence[str]) -> dict[str, Any]:
    """Voxels of all compared cases: a row for each class of the reference, a column for each predicted one."""
    matrices = [record["confusion"] for record in records if record["confusion"] is not None]
    total = np.sum(matrices, axis=0) if matrices else np.zeros((len(classes) + 1,) * 2, np.int64)
    rows = total.sum(axis=1, keepdims=True)
    shares = np.divide(total, rows, out=np.full(total.shape, nan), where=rows > 0)
    return {"classes": ["background", *classes], "voxels": total.tolist(), "normalised": shares.tolist()}


def disagreements_of(table: pd.DataFrame, convention: str) -> dict[str, dict[str, dict[str, Any]]]:
    """Other convention -> metric -> in how many rows it differs, and the largest difference with its case.

    ``left_out`` counts the rows that exactly one of the two leaves out of its mean.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for other in (name for name in CONVENTIONS if name != convention):
        for metric in COMPARED:
            rows = table[table["metric"] == metric]
            unequal = rows[_unequal(rows[other], rows[convention])]
            if unequal.empty:
                continue
            steps = (unequal[other] - unequal[convention]).abs()
            worst = unequal.iloc[int(np.nanargmax(steps)) if steps.notna().any() else 0]
            found.setdefault(other, {})[metric] = {
                "rows": len(unequal),
                "left_out": int((unequal[other].isna() != unequal[convention].isna()).sum()),
                "case": str(worst["case"]),
                "region": str(worst["region"]),
                convention: float(worst[convention]),
                other: float(worst[other]),
            }
    return found


def _unequal(first: "pd.Series[float]", second: "pd.Series[float]") -> "pd.Series[bool]":
    same = (first == second) | (first.isna() & second.isna()) | ((first - second).abs() <= SAME)
    return ~same


def foreground_means(table: pd.DataFrame, settings: Settings) -> dict[str, dict[str, float]]:
    """nnU-Net's ``foreground_mean``: the mean over regions, or classes, of the means over cases."""
    metrics = ("Dice", "IoU", "TP", "FP", "FN", "TN", "n_pred", "n_ref")
    means = table[table["metric"].isin(metrics)].groupby(["region", "metric"])["value"].mean().unstack()
    regions = [name for name in settings.reference.regions if name not in settings.reference.classes or name == "ET"]
    classes = [name for name in settings.reference.regions if name in settings.reference.classes]
    groups = {"regions": regions, "classes": classes}
    return {
        group: {metric: float(means.loc[names, metric].mean(skipna=False)) for metric in metrics}
        for group, names in groups.items()
        if names
    }


def write(folder: Path, records: Sequence[Record], settings: Settings, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Writes the three files, each whole or not at all, and returns the summary."""
    summary = summary_of(records, settings, facts)
    write_text(folder / METRICS_FILE, metrics_of(records).to_csv(index=False, lineterminator="\n"))
    write_text(folder / CONVENTIONS_FILE, conventions_of(records).to_csv(index=False, lineterminator="\n"))
    write_text(folder / SUMMARY_FILE, json.dumps(plain(summary), indent=1, allow_nan=False) + "\n")
    return summary


def read_metrics(folder: Path) -> pd.DataFrame:
    """The table of an evaluation: case, region, metric (str), value (float), note (str).

    Raises:
        ValueError: the folder holds no finished evaluation.
    """
    path = folder / METRICS_FILE
    if not path.is_file():
        raise ValueError(f"{folder} holds no {METRICS_FILE}; make it with nnunet_ext evaluate.")
    kinds = {"case": str, "region": str, "metric": str, "value": float, "note": str}
    table = pd.read_csv(path, dtype=kinds, keep_default_na=False, na_values={"value": [""]})
    if tuple(table.columns) != COLUMNS:
        raise ValueError(f"{path} has the columns {', '.join(table.columns)}, not {', '.join(COLUMNS)}.")
    return table


def read_summary(folder: Path) -> dict[str, Any]:
    """The summary of an evaluation, with NaN for null among numbers left as None.

    Raises:
        ValueError: the folder holds none, or one of another format.
    """
    path = folder / SUMMARY_FILE
    if not path.is_file():
        raise ValueError(f"{folder} holds no {SUMMARY_FILE}; make it with nnunet_ext evaluate.")
    found: dict[str, Any] = read_json(path, "evaluate again with --overwrite")
    if found.get("format") != FORMAT:
        raise ValueError(f"{path} has the format {found.get('format')}, this version reads {FORMAT}; evaluate again.")
    return found


def plain(value: Any) -> Any:
    """The value with what JSON does not have replaced: null for NaN, "inf" for infinity."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, float):
        return None if isnan(value) else ("inf" if value > 0 else "-inf") if isinf(value) else value
    return value


def _note(record: Record, note: str) -> str:
    return "; ".join(filter(None, (record["failure"], record["note"], note)))
