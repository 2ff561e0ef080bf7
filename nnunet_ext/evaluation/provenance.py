"""Where the numbers of a comparison come from: one row a run, so that each number can be traced and computed again."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnunet_ext.evaluation.json_files import read_json
from nnunet_ext.evaluation.runs import FINAL, Run


def sha256(path: Path) -> str | None:
    """Of a file; None if there is none."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def provenance(run: Run, name: str, summary: Mapping[str, Any], preprocessed: Path | None) -> dict[str, Any]:
    """What ``runs.csv`` says of a run.

    Args:
        run: the training.
        name: its name in the tables.
        summary: of the evaluation of its validation.
        preprocessed: the dataset's folder in nnUNet_preprocessed, which has the splits; None if not known.
    """
    recipe = run.recipe()
    debug = _debug(run.folder)
    return {
        "run": name,
        "method": run.method,
        "trainer": run.trainer,
        "plans": run.plans,
        "configuration": run.configuration,
        "seed": run.seed,
        "fold": run.fold,
        "dataset": run.dataset,
        "dataset_sha256": sha256(run.folder.parent / "dataset.json"),
        "plans_sha256": sha256(run.folder.parent / "plans.json"),
        "splits_sha256": sha256(preprocessed / "splits_final.json") if preprocessed else None,
        "cases_sha256": summary["cases_sha256"],
        "labels": summary["reference"]["name"],
        "convention": summary["convention"],
        "checkpoint": FINAL,
        "checkpoint_sha256": sha256(run.folder / FINAL),
        # nnU-Net's final validation mirrors wherever training did
        "test_time_mirroring": recipe.get("augmentation", "full") == "full",
        "epochs": recipe.get("epochs"),
        "iterations": recipe.get("iterations"),
        "recipe": json.dumps(recipe, sort_keys=True) if recipe else None,
        "trained_with": debug,
        "evaluated_with": json.dumps(summary["versions"], sort_keys=True),
        "references": summary["reference_folder"],
        "predictions": str(run.predictions),
    }


def _debug(folder: Path) -> str | None:
    """Versions and device as nnU-Net's debug.json tells them."""
    path = folder / "debug.json"
    if not path.is_file():
        return None
    told = read_json(path, "leave this training out, or remove the file")
    kept = {key: told[key] for key in ("torch_version", "cudnn_version", "gpu_name", "hostname") if key in told}
    return json.dumps(kept, sort_keys=True) or None
