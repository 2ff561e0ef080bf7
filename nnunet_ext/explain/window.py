"""nnU-Net's sliding window over a preprocessed volume, for what its predictor does not hand out."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from acvl_utils.cropping_and_padding.padding import pad_nd_image
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.inference.sliding_window_prediction import compute_gaussian
from torch import Tensor, nn
from torch._dynamo import OptimizedModule

Place = tuple[Any, ...]
"""Of a tile in the padded volume: a slice an axis, or an index where a 2D network reads slices; channels first."""


def bare(network: nn.Module) -> nn.Module:
    """The network itself, where it has been compiled: a compiled one calls no hooks."""
    inner: nn.Module = network._orig_mod if isinstance(network, OptimizedModule) else network
    return inner


def tiles_in(predictor: nnUNetPredictor, shape: Sequence[int]) -> int:
    """How many tiles cover a volume of this shape (Z, Y, X)."""
    patch = predictor.configuration_manager.patch_size
    sizes = [*shape[: len(shape) - len(patch)], *map(max, shape[len(shape) - len(patch) :], patch)]
    return len(predictor._internal_get_sliding_window_slicers(tuple(sizes)))


class Window:
    """The tiles of nnU-Net's prediction of a volume, at its positions, with its Gaussian weights.

    Weights are in single precision: in half precision, which is nnU-Net's, those of a tile's corners are one of the few
    smallest numbers.

    Args:
        predictor: with its model; its patch, step and device are used.
        data: (C, Z, Y, X), preprocessed.

    Attributes:
        shape: (Z, Y, X) of the volume, padded to at least a patch.
        weights: of a tile's voxels.
        total: (Z, Y, X), what they add up to.
    """

    def __init__(self, predictor: nnUNetPredictor, data: Tensor) -> None:
        self.device = predictor.device
        patch = tuple(predictor.configuration_manager.patch_size)
        self.data, self._inside = pad_nd_image(data, patch, "constant", {"value": 0}, True, None)
        self.shape = tuple(self.data.shape[1:])
        self.places: list[Place] = predictor._internal_get_sliding_window_slicers(self.shape)
        self.weights = torch.ones(patch)
        if predictor.use_gaussian:
            self.weights = compute_gaussian(
                patch, value_scaling_factor=10, dtype=torch.float, device=torch.device("cpu")
            )
        self.total = torch.zeros(self.shape)
        for place in self.places:
            self.total[place[1:]] += self.weights

    def tiles(self) -> Iterator[tuple[Place, Tensor]]:
        """Where each tile lies, and the tile (1, C, ...) on the predictor's device."""
        for place in self.places:
            yield place, self.data[place][None].contiguous().to(self.device)

    def padded(self, volume: Tensor) -> Tensor:
        """A volume (Z, Y, X) of the data's size in the padded one, surrounded by 0."""
        around = torch.zeros(self.shape, dtype=volume.dtype)
        around[tuple(self._inside[1:])] = volume
        return around

    def without_padding(self, volume: Tensor) -> Tensor:
        """The part (..., Z, Y, X) of a padded volume that is the data's."""
        return volume[(..., *self._inside[1:])]

    def share(self, place: Place) -> Tensor:
        """How much of each voxel of the merged volume comes from this tile; over all tiles it is 1."""
        return self.weights / self.total[place[1:]]
