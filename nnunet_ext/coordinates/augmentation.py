"""Coordinates in augmentation: space moves them with the voxel, intensities leave them alone."""

from typing import Any

import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform, ImageOnlyTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.random import RandomTransform

from nnunet_ext.coordinates.field import AXES

PREVIOUS_STAGE = "batchgeneratorsv2.transforms.nnunet."  # works on one-hot labels behind the coordinates, by name


class ImageChannels(BasicTransform):
    """Applies a transform to the image's channels; the coordinates behind them stay bit-identical."""

    def __init__(self, transform: BasicTransform) -> None:
        super().__init__()
        self.transform = transform

    def __call__(self, **data: Any) -> dict:
        """``data["image"]``: (C + 3, Z, Y, X) or (C + 3, Y, X)."""
        image, coordinates = data["image"][:-AXES], data["image"][-AXES:]
        changed = self.transform(**{**data, "image": image})
        return {**changed, "image": torch.cat([changed["image"], coordinates])}


def spare_coordinates(transform: BasicTransform) -> BasicTransform:
    """Wraps the intensity transforms inside a composition; what it holds is changed in place."""
    if isinstance(transform, ComposeTransforms):
        transform.transforms = [spare_coordinates(inner) for inner in transform.transforms]
    elif isinstance(transform, RandomTransform):
        transform.transform = spare_coordinates(transform.transform)
    elif isinstance(transform, ImageOnlyTransform) and not type(transform).__module__.startswith(PREVIOUS_STAGE):
        return ImageChannels(transform)
    return transform
