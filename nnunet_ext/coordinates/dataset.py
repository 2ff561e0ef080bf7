"""nnU-Net's preprocessed datasets, each case with its coordinates; the files stay those that all trainers share."""

from typing import Any

from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset, nnUNetDatasetBlosc2, nnUNetDatasetNumpy

from nnunet_ext.coordinates.field import WithCoordinates


class CoordinateDatasetBlosc2(nnUNetDatasetBlosc2):
    """b2nd files, with coordinates."""

    def load_case(self, identifier: str) -> tuple[Any, ...]:
        """Image (C + 3, Z, Y, X), read where it is asked for; the segmentations and properties as they are."""
        image, *others = super().load_case(identifier)
        return WithCoordinates(image), *others


class CoordinateDatasetNumpy(nnUNetDatasetNumpy):
    """npz and npy files, with coordinates."""

    def load_case(self, identifier: str) -> tuple[Any, ...]:
        """As :meth:`CoordinateDatasetBlosc2.load_case`."""
        image, *others = super().load_case(identifier)
        return WithCoordinates(image), *others


# at module level, because spawned workers unpickle the datasets
WITH_COORDINATES: dict[type[nnUNetBaseDataset], type[nnUNetBaseDataset]] = {
    nnUNetDatasetBlosc2: CoordinateDatasetBlosc2,
    nnUNetDatasetNumpy: CoordinateDatasetNumpy,
}
