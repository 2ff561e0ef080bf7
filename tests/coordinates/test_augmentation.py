"""nnU-Net's own augmentation, with coordinates behind the image."""

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.base.basic_transform import ImageOnlyTransform
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_ext.coordinates.augmentation import ImageChannels, spare_coordinates
from nnunet_ext.coordinates.field import AXES, coordinates

SHAPE = (12, 14, 10)
ROTATION = (-0.5, 0.5)


def transforms(*, flat=False, cascaded=False, spatial=True):
    patch = SHAPE[1:] if flat else SHAPE
    composed = nnUNetTrainer.get_training_transforms(
        patch,
        ROTATION,
        None,
        tuple(range(len(patch))),
        False,
        use_mask_for_norm=[True, True],
        is_cascaded=cascaded,
        foreground_labels=[1, 2] if cascaded else None,
    )
    for i, inner in enumerate(composed.transforms):
        if isinstance(inner, RandomTransform):
            inner.apply_probability = 1  # all of them, always
        if isinstance(inner, SpatialTransform):
            inner.p_rotation = inner.p_scaling = 1
        if not spatial and isinstance(inner, SpatialTransform | MirrorTransform):
            composed.transforms[i] = ComposeTransforms([])
    return spare_coordinates(composed)


def sample(shape=SHAPE, *, previous=False):
    """An image whose first channel is its x position, coordinates, and labels."""
    field = torch.from_numpy(coordinates(SHAPE))
    if len(shape) == 2:
        field = field[:, 4]
    image = torch.cat([field[-1:], torch.randn(1, *shape), field])
    return {"image": image, "segmentation": torch.ones(1 + previous, *shape, dtype=torch.int16)}


@pytest.mark.parametrize("flat", [False, True], ids=["3d", "2d"])
@pytest.mark.parametrize("seed", range(5))
def test_intensities_leave_the_coordinates_bit_identical(seed, flat):
    torch.manual_seed(seed)
    np.random.seed(seed)
    before = sample(SHAPE[1:] if flat else SHAPE)
    kept = before["image"].clone()
    after = transforms(flat=flat, spatial=False)(**before)["image"]
    assert torch.equal(after[-AXES:], kept[-AXES:])
    assert not torch.allclose(after[:2], kept[:2], atol=0.01), "the image was augmented"


@pytest.mark.parametrize("seed", range(5))
def test_space_moves_the_coordinates_with_the_voxel(seed):
    torch.manual_seed(seed)
    np.random.seed(seed)
    composed = transforms()
    composed.transforms = [t for t in composed.transforms if isinstance(t, SpatialTransform | MirrorTransform)]
    before = sample()
    after = composed(**before)["image"]
    assert torch.equal(after[0], after[-1]), "the channel that holds the position moved as the position did"
    assert not torch.equal(after[-AXES:], torch.from_numpy(coordinates(SHAPE)))


def test_every_transform_of_intensities_is_wrapped_and_no_other():
    seen = []

    def walk(transform):
        inner = transform.transform if isinstance(transform, RandomTransform) else transform
        if isinstance(inner, ComposeTransforms):
            for one in inner.transforms:
                walk(one)
        else:
            seen.append(inner)

    walk(transforms(cascaded=True))
    wrapped = [t.transform for t in seen if isinstance(t, ImageChannels)]
    assert len(wrapped) == 7
    assert all(isinstance(t, ImageOnlyTransform) for t in wrapped)
    behind = {type(t).__name__ for t in seen if isinstance(t, ImageOnlyTransform)}
    assert behind == {"ApplyRandomBinaryOperatorTransform", "RemoveRandomConnectedComponentFromOneHotEncodingTransform"}


def test_labels_of_a_previous_stage_come_behind_the_coordinates():
    after = transforms(cascaded=True, spatial=False)(**sample(previous=True))["image"]
    assert after.shape[0] == 2 + AXES + 2
    assert torch.equal(after[2 : 2 + AXES], torch.from_numpy(coordinates(SHAPE)))
