"""What a detector of the cascade learns: background and whole tumour, whatever labels the dataset has."""

from collections.abc import Iterable
from typing import Any

NAME = "whole tumor"


def whole_tumor_only(dataset_json: dict) -> dict[str, Any]:
    """``dataset.json`` with one class, of all labels but background and ignore; what it is given stays as it is.

    Several labels become one region (one sigmoid output); a single one stays a label. The ignore label stays.

    Raises:
        ValueError: there is no label but the background.
    """
    labels = dataset_json["labels"]
    found = sorted({int(v) for name, values in labels.items() if name != "ignore" for v in _each(values)} - {0})
    if not found:
        raise ValueError(f"A detector needs a tumour to find, but dataset.json has only the labels {labels}.")
    kept: dict[str, Any] = {"background": 0, NAME: found if len(found) > 1 else found[0]}
    if "ignore" in labels:
        kept["ignore"] = labels["ignore"]
    reduced = {key: value for key, value in dataset_json.items() if key != "regions_class_order"}
    return {**reduced, "labels": kept, **({"regions_class_order": [1]} if len(found) > 1 else {})}


def _each(values: int | Iterable[int]) -> Iterable[int]:
    return [values] if isinstance(values, int) else values
