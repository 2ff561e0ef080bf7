"""What stands in place of a modality that a coalition has not, after nnU-Net's preprocessing.

nnU-Net's networks see normalised images, so that is where a modality is replaced: zero is, after the z-score that
nnU-Net gives MR images, the mean intensity of the brain (of the image, where nnU-Net normalises without a mask) at
every voxel, and outside of the brain what is there already. The mean of the dataset is therefore taken voxel by voxel:
an average brain without this patient's tumour.
"""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import torch
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from torch import Tensor
from torch.nn.functional import interpolate

MOST_CASES = 50
"""Training cases whose mean is taken, evenly spread over those that there are."""
Baseline = Callable[[Sequence[int]], Tensor]
"""From the shape (C, Z, Y, X) of a case's image channels to what replaces them."""


def zero(shape: Sequence[int]) -> Tensor:
    """Zeros (C, Z, Y, X)."""
    return torch.zeros(tuple(shape))


class Mean:
    """The mean of preprocessed training cases, voxel by voxel, each of them interpolated to the first one's shape.

    Args:
        folder: of the preprocessed cases of a configuration.
        without: names of cases that are explained, which are left out.
        channels: of the images.

    Attributes:
        cases: names of the cases that were averaged.
        image: (C, Z, Y, X).

    Raises:
        ValueError: there is no other preprocessed case.
    """

    def __init__(self, folder: Path, without: Collection[str], channels: int) -> None:
        self.cases = others(folder, without)
        dataset = infer_dataset_class(str(folder))(str(folder), list(self.cases))
        images = (torch.as_tensor(dataset.load_case(case)[0][:channels]).float() for case in self.cases)
        total = next(images).double()
        for image in images:
            total += resized(image, total.shape[1:])
        self.image = (total / len(self.cases)).float()

    def __call__(self, shape: Sequence[int]) -> Tensor:
        """The mean (C, Z, Y, X) for a case of this shape."""
        return resized(self.image, shape[1:])


def others(folder: Path, without: Collection[str]) -> tuple[str, ...]:
    """The cases whose mean is taken.

    Raises:
        ValueError: there is none.
    """
    # other endings nnU-Net's own search meets with an assertion
    endings = {path.suffix for path in folder.glob("*") if path.is_file()} - {".pkl", ".npy"}
    there = endings in ({".b2nd"}, {".npz"})
    found = sorted(infer_dataset_class(str(folder)).get_identifiers(str(folder))) if there else []
    left = [case for case in found if case not in without]
    if not left:
        raise ValueError(
            f"The baseline 'mean' needs preprocessed training cases other than those that are explained, and {folder} "
            "holds none; run nnUNetv2_preprocess there, or take --baseline zero."
        )
    return tuple(left[:: -(-len(left) // MOST_CASES)])


def resized(image: Tensor, shape: Sequence[int]) -> Tensor:
    """(C, Z, Y, X) linearly interpolated to another (Z, Y, X)."""
    return interpolate(image[None], tuple(shape), mode="trilinear")[0]
