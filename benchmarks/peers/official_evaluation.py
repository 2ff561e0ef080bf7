"""Runs brats-evaluation, which needs an environment of its own (numpy<2.3), for benchmarks/evaluation.py.

    PYTHON_OF_THAT_ENVIRONMENT benchmarks/peers/official_evaluation.py values PAIRS.npz OUT.json
    PYTHON_OF_THAT_ENVIRONMENT benchmarks/peers/official_evaluation.py time REFERENCE PREDICTION REPEATS OUT.json

``values``: arrays reference_SEED and prediction_SEED (z, y, x; labels of BraTS 2023, voxels of 1 mm) -> for each seed
and region what the package says. ``time``: seconds for each pair of equally named files, read by the package.
"""

import contextlib
import io
import json
import sys
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

REGIONS = {"wt": "WT", "tc": "TC", "et": "ET", "netc": "NCR", "snfh": "ED"}
KEYS = {
    "global_bin_dsc": "Dice",
    "global_bin_hd95": "HD95_pooled",
    "global_bin_nsd": "NSD_voxel",
    "sq_dsc": "lesionwise_Dice",
    "sq_hd95": "lesionwise_HD95",
    "sq_nsd": "lesionwise_NSD_voxel",
    "tp": "lesions_tp",
    "fp": "lesions_fp",
    "fn": "lesions_fn",
}


def evaluator() -> Callable[..., dict[str, Any]]:
    """The package's evaluator with its configuration for gliomas."""
    from brats_evaluation import config_path
    from panoptica import Panoptica_Evaluator

    made: Any = Panoptica_Evaluator.load_from_config(str(config_path("gli")))
    found: Callable[..., dict[str, Any]] = made.evaluate
    return found


def values(pairs: Path) -> dict[str, Any]:
    """Seed -> region -> metric -> value."""
    evaluate, arrays = evaluator(), np.load(pairs)
    found: dict[str, Any] = {}
    for seed in (name.removeprefix("reference_") for name in arrays.files if name.startswith("reference_")):
        groups = evaluate(arrays[f"prediction_{seed}"], arrays[f"reference_{seed}"])
        rows = {REGIONS[group]: result.to_dict() for group, result in groups.items() if group in REGIONS}
        found[seed] = {region: {KEYS[k]: float(row[k]) for k in KEYS} for region, row in rows.items()}
    return found


def timed(reference: Path, prediction: Path, repeats: int) -> dict[str, list[float]]:
    """Case -> processor seconds of each repeat."""
    evaluate = evaluator()
    found: dict[str, list[float]] = {}
    for path in sorted(prediction.glob("*.nii.gz")):
        found[path.name] = []
        for _ in range(repeats):
            start = time.process_time()
            groups = evaluate(str(path), str(reference / path.name))
            assert all(result.to_dict(True) for result in groups.values())
            found[path.name].append(time.process_time() - start)
    return found


def main() -> None:
    """The command."""
    warnings.simplefilter("ignore")
    what, *rest, out = sys.argv[1:]
    with contextlib.redirect_stdout(io.StringIO()):
        found = values(Path(rest[0])) if what == "values" else timed(Path(rest[0]), Path(rest[1]), int(rest[2]))
    versions = {name: version(name) for name in ("brats-evaluation", "panoptica", "numpy", "scipy")}
    Path(out).write_text(json.dumps({"versions": versions, "found": found}), encoding="utf-8")


if __name__ == "__main__":
    main()
