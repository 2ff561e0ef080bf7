"""What can be wrong with the models of a cascade and with its input, each in one sentence."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunet_ext.networks.channels import channel_names
from nnunet_ext.trainers.grammar import parse

SAME = ("transpose_forward", "image_reader_writer")
SAME_NORMALISATION = ("normalization_schemes", "use_mask_for_norm")


def folds_of(folder: Path, folds: Sequence[int | str] | str | None, checkpoint: str, flags: str) -> Sequence[int | str]:
    """The folds of a model folder that has all that prediction reads.

    Args:
        folder: ``<trainer>__<plans>__<configuration>`` of nnUNet_results.
        folds: that are asked for, one or several; None for all that are there but ``all``, as in nnU-Net.
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
    found = sorted(p.parent.name.removeprefix("fold_") for p in folder.glob(f"fold_*/{checkpoint}"))
    wanted = [folds] if isinstance(folds, str) else folds
    if wanted is None:
        wanted = [fold for fold in found if fold != "all"]
    missing = [fold for fold in wanted if str(fold) not in found]
    if missing or not wanted:
        have = f"those with it: {' '.join(found)}" if found else "no fold has it"
        which = f" for fold {', '.join(map(str, missing))}" if missing else ""
        raise ValueError(f"{folder} has no {checkpoint}{which}; {have}.")
    return wanted


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
    if channel_names(segmentation.dataset_json) != channel_names(detector.dataset_json):
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


def check_previous_stage(predictor: nnUNetPredictor, folder: str | None) -> None:
    """Refuses predictions of a previous stage where there is none, and their absence where there is one.

    Raises:
        ValueError: with the flag that is too much or missing.
    """
    stage = predictor.configuration_manager.previous_stage_name
    if stage and not folder:
        raise ValueError(f"This configuration reads the segmentations of {stage}; give -prev_stage_predictions FOLDER.")
    if folder and not stage:
        raise ValueError("This configuration reads no previous stage; leave out -prev_stage_predictions.")
    if folder and not Path(folder).is_dir():
        raise ValueError(f"There is no folder {folder}; -prev_stage_predictions names that of {stage}.")


def check_channels(count: int, predictor: nnUNetPredictor, what: str) -> None:
    """Refuses an input with another number of image channels than the dataset's.

    Raises:
        ValueError: with the channels that are expected.
    """
    names = list(channel_names(predictor.dataset_json).values())
    if count != len(names):
        raise ValueError(f"{what} has {count} channels; expected are {len(names)}, in this order: {', '.join(names)}.")


def _by(size: Iterable[int], separator: str = "x") -> str:
    return separator.join(map(str, size))
