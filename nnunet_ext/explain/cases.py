"""One case on its way through nnU-Net: preprocessed, and what was found brought back into the original image."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from acvl_utils.cropping_and_padding.bounding_boxes import insert_crop_into_image
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from numpy.typing import NDArray
from torch import Tensor

from nnunet_ext.explain.regions import check_labels
from nnunet_ext.networks.channels import channel_names

SPACING_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Case:
    """A preprocessed case.

    Attributes:
        name: as in its files' names.
        data: (C, Z, Y, X), nnU-Net's preprocessing; coordinates of CoordConv follow the image's channels.
        properties: nnU-Net's, for the way back.
    """

    name: str
    data: Tensor
    properties: dict[str, Any]


def modalities_of(predictor: nnUNetPredictor) -> tuple[str, ...]:
    """The image channels, as dataset.json names them; coordinates are none."""
    names = channel_names(predictor.dataset_json)
    return tuple(names[str(i)] for i in range(len(names)))


def check_stage(predictor: nnUNetPredictor) -> None:
    """Refuses a network that reads the predictions of another one.

    Raises:
        ValueError: with the configuration that it reads.
    """
    stage = predictor.configuration_manager.previous_stage_name
    if stage:
        raise ValueError(
            f"{predictor.trainer_name} reads the predictions of {stage} beside the image, so its image channels alone "
            "do not explain it; explain a model of another configuration."
        )


def prepare(predictor: nnUNetPredictor, name: str, files: Sequence[Path]) -> Case:
    """Reads and preprocesses a case as nnU-Net does for a prediction.

    Args:
        predictor: with its model.
        name: of the case.
        files: its image channels in their order.
    """
    configuration = predictor.configuration_manager
    preprocessor = configuration.preprocessor_class(verbose=False)
    data, _, properties = preprocessor.run_case(
        [str(path) for path in files], None, predictor.plans_manager, configuration, predictor.dataset_json
    )
    return Case(name, torch.from_numpy(np.ascontiguousarray(data)), properties)


def original_shape(predictor: nnUNetPredictor, properties: dict[str, Any]) -> tuple[int, ...]:
    """(Z, Y, X) of the image as its reader gives it."""
    shape = properties["shape_before_cropping"]
    return tuple(int(shape[i]) for i in predictor.plans_manager.transpose_backward)


def read_reference(predictor: nnUNetPredictor, path: Path, case: Case) -> NDArray[Any]:
    """The reference segmentation (Z, Y, X) of a case, by nnU-Net's reader, so that its voxels are the image's.

    Raises:
        ValueError: another shape or voxel size than the image, or labels that the dataset has not.
    """
    found, properties = predictor.plans_manager.image_reader_writer_class().read_seg(str(path))
    shape = original_shape(predictor, case.properties)
    if found.shape[1:] != shape:
        raise ValueError(f"{path} has the shape {_by(found.shape[1:])} (z, y, x); {case.name} has {_by(shape)}.")
    spacings = properties["spacing"], case.properties["spacing"]
    if not np.allclose(*spacings, rtol=SPACING_TOLERANCE, atol=0):
        raise ValueError(f"{path} has voxels of {_by(spacings[0])} mm (z, y, x); {case.name} of {_by(spacings[1])} mm.")
    check_labels(found[0], predictor.dataset_json, str(path))
    reference: NDArray[Any] = found[0]
    return reference


def to_original(predictor: nnUNetPredictor, maps: Tensor, properties: dict[str, Any]) -> NDArray[np.float32]:
    """Maps (K, Z, Y, X) of a preprocessed volume in the original image, 0 where nnU-Net cropped it away.

    It resamples as nnU-Net does its probabilities.
    """
    plans, configuration = predictor.plans_manager, predictor.configuration_manager
    spacing = [properties["spacing"][i] for i in plans.transpose_forward]
    present = configuration.spacing
    present = present if len(present) == len(spacing) else [spacing[0], *present]  # 2D leaves the slices alone
    shape = properties["shape_after_cropping_and_before_resampling"]
    resampled = np.asarray(configuration.resampling_fn_probabilities(maps, shape, present, spacing), np.float32)
    whole = np.zeros((len(resampled), *properties["shape_before_cropping"]), np.float32)
    whole = insert_crop_into_image(whole, resampled, properties["bbox_used_for_cropping"])
    return whole.transpose([0, *(i + 1 for i in plans.transpose_backward)])


def _by(numbers: Sequence[float]) -> str:
    return " x ".join(f"{n:g}" for n in numbers)
