"""Finding a dataset that nnU-Net has planned."""

import json
import os
from pathlib import Path
from typing import Any


def dataset_folder(dataset: str) -> Path:
    """The folder in nnUNet_preprocessed of a dataset that is named by its number or its name.

    Raises:
        ValueError: nnUNet_preprocessed is not set, or there is not exactly one such dataset in it.
    """
    root = os.environ.get("nnUNet_preprocessed")
    if not root:
        raise ValueError("nnUNet_preprocessed is not set; `nnunet_ext env` tells how to set it.")
    found = sorted(Path(root).glob(f"Dataset{int(dataset):03d}_*" if dataset.isdecimal() else dataset))
    if len(found) != 1:
        raise ValueError(f"{root} holds {len(found)} datasets {dataset}, not one; preprocess it, or give its name.")
    return found[0]


def read_plans(folder: Path, plans: str) -> dict[str, Any]:
    """Plans of a dataset.

    Raises:
        ValueError: there are none of that name.
    """
    path = folder / f"{plans}.json"
    if not path.is_file():
        raise ValueError(f"There are no plans {path}; run nnUNetv2_plan_and_preprocess, or name others with -p.")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
