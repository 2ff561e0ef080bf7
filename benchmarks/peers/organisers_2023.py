"""Runs the organisers' script of BraTS 2023 for benchmarks/evaluation.py.

    PYTHON benchmarks/peers/organisers_2023.py EVAL_PY PAIRS.npz OUT.json

EVAL_PY is eval.py of github.com/rachitsaluja/BraTS-2023-Metrics; PYTHON has its libraries (numpy, pandas 2, nibabel,
cc3d, surface-distance). The script runs as it is, with what it uses put back where newer libraries have dropped it:
names of NumPy and scipy, masks of whole numbers in surface-distance, and ``replace`` of tables that hold arrays.
"""

import importlib.util
import json
import sys
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import surface_distance
from scipy import ndimage

KEYS = {
    "Legacy_Dice": "Dice",
    "Legacy_HD95": "HD95_directed",
    "Sensitivity": "recall",
    "Specificity": "specificity",
    "LesionWise_Score_Dice": "lesionwise_Dice",
    "LesionWise_Score_HD95": "lesionwise_HD95",
    "Num_TP": "lesions_tp",
    "Num_FP": "lesions_fp",
    "Num_FN": "lesions_fn",
}


def put_back() -> None:
    """What the script uses and newer libraries lack."""
    setattr(np, "Inf", np.inf)  # noqa: B010 - NumPy's types do not know the name
    for name in ("filters", "morphology"):
        setattr(ndimage, name, ndimage)
    distances, replace = surface_distance.compute_surface_distances, pd.DataFrame.replace

    def of_numbers(first: Any, second: Any, spacing: Any) -> Any:
        return distances(first.astype(bool), second.astype(bool), spacing)

    def of_numeric(self: Any, old: Any, new: Any, inplace: bool = False) -> Any:
        table = self if inplace else self.copy()
        for column in table.columns:
            if not table[column].map(lambda value: isinstance(value, np.ndarray | str)).any():
                table[column] = replace(table[[column]], old, new)[column]
        return None if inplace else table

    surface_distance.compute_surface_distances = of_numbers
    setattr(pd.DataFrame, "replace", of_numeric)  # noqa: B010 - as above


def load(path: Path) -> Any:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("organisers_2023", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def values(script: Any, pairs: Path) -> dict[str, Any]:
    """Seed -> region -> metric -> value."""
    arrays, found = np.load(pairs), {}
    with tempfile.TemporaryDirectory() as folder:
        files = {kind: Path(folder, f"{kind}.nii") for kind in ("prediction", "reference")}
        for seed in (name.removeprefix("reference_") for name in arrays.files if name.startswith("reference_")):
            for kind, path in files.items():
                nib.save(nib.Nifti1Image(arrays[f"{kind}_{seed}"].T, np.eye(4)), path)
            table = script.get_LesionWiseResults(str(files["prediction"]), str(files["reference"]), "BraTS-GLI")
            rows = table.set_index("Labels")
            found[seed] = {r: {KEYS[k]: float(rows.loc[r, k]) for k in KEYS} for r in ("WT", "TC", "ET")}
    return found


def main() -> None:
    """The command."""
    warnings.simplefilter("ignore")
    put_back()
    found = values(load(Path(sys.argv[1])), Path(sys.argv[2]))
    versions = {name: version(name) for name in ("surface-distance", "numpy", "scipy", "pandas")}
    Path(sys.argv[3]).write_text(json.dumps({"versions": versions, "found": found}), encoding="utf-8")


if __name__ == "__main__":
    main()
