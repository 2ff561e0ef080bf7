"""Finding a dataset in nnU-Net's folders, and what nnU-Net has planned for it."""

import json
import os
import re
from pathlib import Path
from typing import Any


def dataset_folder(dataset: str) -> Path:
    """The folder in nnUNet_preprocessed of a dataset; see :func:`find_dataset`."""
    return find_dataset("nnUNet_preprocessed", dataset, "preprocess it")


def results_folder(dataset: str) -> Path:
    """The folder in nnUNet_results of a dataset; see :func:`find_dataset`."""
    return find_dataset("nnUNet_results", dataset, "train models")


def references_folder(dataset: str) -> Path:
    """The reference segmentations of a dataset (its whole name) in nnUNet_preprocessed, or else in nnUNet_raw.

    Raises:
        ValueError: they are in neither.
    """
    for variable, folder in (("nnUNet_preprocessed", "gt_segmentations"), ("nnUNet_raw", "labelsTr")):
        root = os.environ.get(variable)
        if root and (path := Path(root, dataset, folder)).is_dir():
            return path
    raise ValueError(
        f"The reference segmentations of {dataset} are neither in nnUNet_preprocessed nor in nnUNet_raw; name "
        f"their folder with --labels, or set the variables (`nnunet_ext env`)."
    )


def find_dataset(variable: str, dataset: str, remedy: str) -> Path:
    """The folder of a dataset that is named by its number or its name.

    Args:
        variable: of the environment, which names the folder of all datasets.
        dataset: number or name.
        remedy: how a missing one comes to be there, for the message.

    Raises:
        ValueError: the variable is not set, or there is not exactly one such dataset.
    """
    root = os.environ.get(variable)
    if not root:
        raise ValueError(f"{variable} is not set; `nnunet_ext env` tells how to set it.")
    found = sorted(Path(root).glob(f"Dataset{int(dataset):03d}_*" if dataset.isdecimal() else dataset))
    if len(found) != 1:
        raise ValueError(f"{root} holds {len(found)} datasets {dataset}, not one; {remedy}, or give its name.")
    return found[0]


def dataset_number(folder: Path) -> int:
    """The number in a dataset's name, of any number of digits; nnU-Net's own way takes three."""
    match = re.match(r"Dataset(\d+)_", folder.name)
    if match is None:
        raise ValueError(f"{folder} is no dataset of nnU-Net, whose names are Dataset501_NAME.")
    return int(match[1])


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
