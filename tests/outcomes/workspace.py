"""Results folders of case-level trainings as validation leaves them, made without a training."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from nnunet_ext.outcomes.columns import SCHEMA_FILE, TABLE_FILE
from nnunet_ext.outcomes.results import write
from tests.outcomes.samples import DAYS, GRADE, SCORE, STAGE

DATASET = "Dataset501_Made"
COLUMNS = {column.name: column for column in (GRADE, STAGE, SCORE, DAYS)}
SCHEMA = {
    "columns": {
        "grade": {"kind": "class", "levels": ["LGG", "HGG"]},
        "stage": {"kind": "ordinal", "levels": ["short", "medium", "long"]},
        "score": {"kind": "regression", "unit": "years", "bands": [0.5, 1.0, 2.0]},
        "days": {"kind": "survival", "unit": "days", "censoring": "censored", "cuts": [300, 450]},
    },
    "covariates": {"age": {"coding": "z"}, "sex": {"coding": "binary", "levels": ["F", "M"]}},
    "groups": ["patient"],
}


def table_of(n=40, seed=0):
    """Targets of ``n`` cases, two a patient; age goes with the days and the stage, sex with nothing."""
    generator = np.random.default_rng(seed)
    age = np.repeat(generator.normal(60, 12, n // 2), 2).round(1)
    days = (1500 - 18 * age + generator.normal(0, 120, n)).clip(20).round()
    return pd.DataFrame(
        {
            "case": [f"case{i:03d}" for i in range(n)],
            "patient": [f"p{i // 2:02d}" for i in range(n)],
            "grade": np.where(generator.permutation(n) % 2, "HGG", "LGG"),
            "stage": np.array(["short", "medium", "long"])[(days > 300).astype(int) + (days > 450)],
            "score": (days / 365 + generator.normal(0, 0.3, n)).round(3),
            "days": days,
            "censored": (generator.random(n) < 0.2).astype(int),
            "age": age,
            "sex": generator.choice(["F", "M"], n),
        }
    )


def write_targets(folder, table, schema=None):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SCHEMA_FILE).write_text(json.dumps(schema or SCHEMA))
    table.to_csv(folder / TABLE_FILE, index=False)


def splits_of(table, folds=4):
    """By patient, as ``splits_final.json`` has them."""
    patients = sorted(set(table["patient"]))
    parts = [set(patients[f::folds]) for f in range(folds)]
    inside = [table["patient"].isin(part) for part in parts]
    return [{"train": list(table.loc[~i, "case"]), "val": list(table.loc[i, "case"])} for i in inside]


def predicted(column, truth, skill, generator):
    """Words and probabilities, or numbers and intervals, of a case."""
    if column.levels:
        logits = skill * (np.array(column.levels) == truth) + generator.normal(size=len(column.levels))
        shares = np.exp(logits) / np.exp(logits).sum()
        levels = {f"p_{level}": share for level, share in zip(column.levels, shares, strict=True)}
        return {"prediction": column.levels[int(shares.argmax())], **levels}
    spread = {"days": 200, "score": 0.6}[column.name]
    middle = {"days": 420, "score": 1.15}[column.name]
    value = middle + min(skill / 4, 1) * (float(truth) - middle) + generator.normal(0, spread / (1 + skill))
    return {"prediction": value, "lower": value - spread, "upper": value + spread}


def rows_of(table, cases, fold, seed, skill, names=("grade", "stage", "score", "days")):
    generator = np.random.default_rng([int(seed or 0), int(100 * skill), len(cases), hash_of(cases[0])])
    rows = []
    for case in cases:
        known = table.set_index("case").loc[case]
        for name in names:
            made = predicted(COLUMNS[name], known[name], skill, generator)
            words = {"case": case, "patient": known["patient"], "column": name, "kind": COLUMNS[name].kind}
            censored = {"censored": known["censored"]} if name == "days" else {}
            rows.append({**words, "truth": known[name], **made, "fold": fold, "seed": seed, **censored})
    return pd.DataFrame(rows)


def hash_of(text):
    return sum(ord(letter) * 31**place for place, letter in enumerate(text)) % 10**6


def write_training(
    results: Path, trainer, table, folds, *, skill=4.0, seed=None, names=("grade", "stage", "score", "days")
):
    """All folds of a model, finished; gives the model's folder."""
    model = results / DATASET / f"{trainer}__nnUNetPlans__3d_roi"
    for place, split in enumerate(folds):
        fold = model / f"fold_{place}"
        fold.mkdir(parents=True)
        (fold / "checkpoint_final.pth").touch()
        rows = rows_of(table, split["val"], place, seed, skill, names)
        write(fold / "validation", rows, [COLUMNS[name] for name in names], {"trainer": trainer})
    return model
