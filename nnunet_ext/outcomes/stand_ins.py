"""What stands in for the segmentations of a raw dataset that has none: nnU-Net preprocesses nothing without."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from nnunet_ext.evaluation.table import whole
from nnunet_ext.outcomes.pixels import LABELS, stand_in


def write_stand_ins(raw: Path, dataset: Mapping[str, Any], kind: str) -> None:
    """Write ``labelsTr``, all of it or nothing, and the label into dataset.json.

    Args:
        raw: folder of a raw dataset with imagesTr and without labelsTr.
        dataset: its dataset.json.
        kind: the whole ``image``, or the ``box`` of what is not zero in some channel.

    Raises:
        ValueError: an image cannot be read, or is zero everywhere.
    """
    from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_dataset_json
    from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

    cases = get_filenames_of_train_images_and_targets(str(raw), dict(dataset))
    first = next(iter(cases.values()))["images"][0]
    reader = determine_reader_writer_from_dataset_json(dict(dataset), first, verbose=False)()
    folder = raw / f".labelsTr.{os.getpid()}.partial"
    try:
        folder.mkdir()
        for case, files in tqdm(cases.items(), "stand-ins", unit="case"):
            images, properties = _read(reader, files["images"])
            mask = stand_in((images != 0).any(axis=0), kind)
            reader.write_seg(mask, str(folder / f"{case}{dataset['file_ending']}"), properties)
        changed = {**dataset, "labels": LABELS}
        changed.pop("regions_class_order", None)
        whole(raw / "dataset.json", json.dumps(changed, indent=4) + "\n")
        folder.rename(raw / "labelsTr")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _read(reader: Any, files: list[str]) -> tuple[np.ndarray, dict[str, Any]]:
    try:
        images, properties = reader.read_images(files)
    except (RuntimeError, OSError, ValueError) as error:  # of SimpleITK, scikit-image, nibabel
        reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        raise ValueError(f"{files[0]} or another channel of it cannot be read ({reason[0].strip()}).") from error
    if not images.any():
        raise ValueError(f"{files[0]} and its other channels are zero everywhere; replace or remove them.")
    return images, properties
