"""From the maps of a case to files: scaled once, in the space of the image, with a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from numpy.typing import NDArray
from torch import Tensor

from nnunet_ext.explain.cases import Case, modalities_of, to_original
from nnunet_ext.explain.gradcam import normalised
from nnunet_ext.explain.layers import file_name
from nnunet_ext.explain.nifti import ENDING, write_map
from nnunet_ext.explain.pictures import Heat, overlay, underlays
from nnunet_ext.networks.channels import modality_of

Found = tuple[str, Mapping[str, Tensor], Tensor]
"""A region's name, its maps before the ReLU by their names, and where it was predicted; each (Z, Y, X)."""


def write_region(predictor: nnUNetPredictor, case: Case, images: Sequence[Path], found: Found, out: Path) -> list[str]:
    """Writes the maps of a region and their picture.

    Args:
        predictor: with its model.
        case: preprocessed.
        images: its channels, in their order.
        found: in the space of the preprocessed volume.
        out: folder.

    Returns:
        The names of the files, relative to ``out``.
    """
    region, maps, predicted = found
    scaled = normalised({name: _original(predictor, map_.clamp(min=0), case) for name, map_ in maps.items()})
    stem = f"{case.name}__{file_name(region)}"
    files = {name: f"{stem}{'__' * bool(name)}{file_name(name)}{ENDING}" for name in scaled}
    for name, file in files.items():
        write_map(scaled[name].numpy(), images[0], out / file)
    inside = _original(predictor, predicted.float(), case).numpy() > 0.5
    heats = _heats(predictor, images, {name: map_.numpy() for name, map_ in scaled.items()})
    overlay(f"{case.name}: {region}", heats, inside, out / f"{stem}.png")
    return [*files.values(), f"{stem}.png"]


def _original(predictor: nnUNetPredictor, map_: Tensor, case: Case) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(to_original(predictor, map_[None], case.properties)[0]))


def _heats(predictor: nnUNetPredictor, images: Sequence[Path], maps: Mapping[str, NDArray[Any]]) -> list[Heat]:
    reader = predictor.plans_manager.image_reader_writer_class()
    volumes = reader.read_images([str(path) for path in images])[0]
    modalities = [modality_of(name) or name for name in modalities_of(predictor)]
    beneath = underlays(list(maps), modalities, volumes)
    return [Heat(name or "Grad-CAM", beneath[name], map_) for name, map_ in maps.items()]
