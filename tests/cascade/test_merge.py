"""How crops become one volume of logits, on crops whose logits are given."""

from types import SimpleNamespace

import pytest
import torch

from nnunet_ext.cascade.predictor import nnUNetCascadePredictor
from nnunet_ext.cascade.settings import CascadeSettings
from tests.cascade import models


class Scripted(nnUNetCascadePredictor):
    """A cascade whose crops have given logits, one after the other; only merging is tested."""

    def __init__(self, heads, regions, merge, crops):
        settings = CascadeSettings(crop_size=crops[0].shape[1:], merge=merge)
        super().__init__(device=models.CPU, allow_tqdm=False, settings=settings)
        self.label_manager = SimpleNamespace(num_segmentation_heads=heads, has_regions=regions)
        self._components, self.crops = [], iter(crops)

    def _internal_maybe_mirror_and_predict(self, x):
        return next(self.crops)[None]


def merged(crops, starts, length, merge="max", *, regions=False):
    """Crops (K, Z, Y, X) at starts along x, one row of voxels ``length`` long."""
    made = Scripted(len(crops[0]), regions, merge, crops)
    *_, height, width = crops[0].shape
    slicers = [tuple(map(slice, (None, 0, 0, start), (None, 1, height, start + width))) for start in starts]
    return made._internal_predict_sliding_window_return_logits(torch.zeros(1, 1, height, length), slicers)


def test_the_largest_log_odds_win():
    """By hand: background 10 against 8 in one crop, 2 against 5 in the other; the second is for the tumour by more."""
    crops = [torch.tensor([10.0, 8.0])[:, None, None, None], torch.tensor([2.0, 5.0])[:, None, None, None]]
    assert merged(crops, (0, 0), 1).flatten().tolist() == [0, 3]
    assert merged(crops, (0, 0), 1, regions=True).flatten().tolist() == [10, 8], "regions are logits of their own"


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_a_constant_per_voxel_changes_nothing(classes):
    generator = torch.Generator().manual_seed(classes)
    crops = [torch.randn(classes, 1, 3, 4, generator=generator) for _ in range(3)]
    shifted = [crop + 20 * torch.randn(1, 1, 3, 4, generator=generator) for crop in crops]
    one, other = merged(crops, (0, 2, 3), 8), merged(shifted, (0, 2, 3), 8)
    torch.testing.assert_close(one, other, rtol=0, atol=2e-5)
    assert one.argmax(0).any()
    assert (one.softmax(0)[1:, ..., 7].sum(0) < 1e-4).all(), "no crop reaches the last column"


def test_gaussian_weights_leave_the_logits_of_one_crop_as_they_are():
    """Where one crop is alone the mean is its own logits, corners included; nnU-Net's half precision loses them."""
    crops = [torch.randn(2, 1, 24, 24, generator=torch.Generator().manual_seed(s)) * 5 for s in range(2)]
    found = merged(crops, (0, 20), 50, "gaussian", regions=True)
    torch.testing.assert_close(found[..., :20], crops[0][..., :20], rtol=0, atol=1e-3)
    torch.testing.assert_close(found[..., 24:44], crops[1][..., 4:], rtol=0, atol=1e-3)
