"""What can be wrong with the models of a cascade and with its input, each in one sentence."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunet_ext.trainers.grammar import parse

SAME = ("transpose_forward", "image_reader_writer")
SAME_NORMALISATION = ("normalization_schemes", "use_mask_for_norm")


def check_folder(folder: Path, folds: Sequence[int | str], checkpoint: str, flags: str) -> None:
    """Refuses a model folder that lacks what prediction reads.

    Args:
        folder: ``<trainer>__<plans>__<configuration>`` of nnUNet_results.
        folds: that are asked for.
        checkpoint: file name.
        flags: of the command line, which name this model.

    Raises:
        ValueError: with what is there.
    """
    if not folder.is_dir():
        near = sorted(p.name for p in folder.parent.glob("*__*__*") if p.is_dir())
        known = f"trained models there: {', '.join(near)}" if near else "nothing is trained there"
        raise ValueError(f"There is no model {folder}; {known}. Choose with {flags}.")
    for name in ("dataset.json", "plans.json"):
        if not (folder / name).is_file():
            raise ValueError(f"{folder} has no {name}; it is no model that nnU-Net trained.")
    missing = [fold for fold in folds if not (folder / f"fold_{fold}" / checkpoint).is_file()]
    if missing:
        found = sorted(p.parent.name.removeprefix("fold_") for p in folder.glob(f"fold_*/{checkpoint}"))
        have = f"those with it: {' '.join(found)}" if found else "no fold has it"
        raise ValueError(f"{folder} has no {checkpoint} for fold {', '.join(map(str, missing))}; {have}.")


def check_models(segmentation: nnUNetPredictor, detector: nnUNetPredictor) -> None:
    """Refuses a detector that cannot read what the segmentation network's preprocessing gives.

    Raises:
        ValueError: another dataset, other channels, another orientation or normalisation, or a 2D configuration.
    """
    ours, theirs = segmentation.plans_manager, detector.plans_manager
    if ours.dataset_name != theirs.dataset_name:
        raise ValueError(
            f"The detector was trained on {theirs.dataset_name}, the segmentation network on {ours.dataset_name}; "
            f"train a detector on {ours.dataset_name}."
        )
    for predictor in (segmentation, detector):
        configuration = predictor.configuration_manager
        if len(configuration.patch_size) != 3:
            raise ValueError(f"The cascade needs 3D configurations, and {predictor.trainer_name} was trained in 2D.")
    if differing := [*_differing(segmentation, detector)]:
        raise ValueError(
            f"Detector and segmentation network differ in {', '.join(differing)}, so one image cannot serve both; "
            "train both with configurations of the same plans (`nnunet_ext plan-roi`)."
        )


def _differing(segmentation: nnUNetPredictor, detector: nnUNetPredictor) -> Iterable[str]:
    for key in SAME:
        if segmentation.plans_manager.plans[key] != detector.plans_manager.plans[key]:
            yield key
    for key in SAME_NORMALISATION:
        if getattr(segmentation.configuration_manager, key) != getattr(detector.configuration_manager, key):
            yield key
    if segmentation.dataset_json["channel_names"] != detector.dataset_json["channel_names"]:
        yield "channel_names"


def check_crop(predictor: nnUNetPredictor, crop: Sequence[int]) -> None:
    """Refuses a crop size that the segmentation network cannot take.

    Raises:
        ValueError: with the next legal size, or the only one.
    """
    ours = parse(predictor.trainer_name)
    only = ours and ours.spec.input_size
    if only and only != tuple(crop):
        raise ValueError(
            f"{predictor.trainer_name} reads images of {_by(only)} voxels only; give --crop_size {_by(only, ' ')}."
        )
    divisors = np.prod(predictor.configuration_manager.pool_op_kernel_sizes, 0)
    legal = [-(-c // int(d)) * int(d) for c, d in zip(crop, divisors, strict=True)]
    if legal != list(crop):
        raise ValueError(
            f"The crop size {_by(crop)} does not divide by the strides {_by(divisors)} of "
            f"{predictor.trainer_name}; the next legal one is --crop_size {_by(legal, ' ')}."
        )


def check_channels(count: int, predictor: nnUNetPredictor, what: str) -> None:
    """Refuses an input with another number of image channels than the dataset's.

    Raises:
        ValueError: with the channels that are expected.
    """
    names = list(predictor.dataset_json["channel_names"].values())
    if count != len(names):
        raise ValueError(f"{what} has {count} channels; expected are {len(names)}, in this order: {', '.join(names)}.")


def _by(size: Iterable[int], separator: str = "x") -> str:
    return separator.join(map(str, size))
