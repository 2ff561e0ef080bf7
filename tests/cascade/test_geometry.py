"""Boxes and crops: by hand, by law, and through nnU-Net's own way back to the image."""

import numpy as np
import pytest
import SimpleITK
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from nnunetv2.inference.sliding_window_prediction import compute_steps_for_sliding_window
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_ext.cascade import geometry
from nnunet_ext.cascade.components import Component
from nnunet_ext.cascade.settings import CascadeSettings
from tests.cascade import models

RUNS = 10_000


def box(*ends):
    return tuple(slice(*pair) for pair in ends)


def some_box(rng, shape):
    ends = [np.sort(rng.choice(n + 1, 2, replace=False)) for n in shape]
    return tuple(slice(int(a), int(b)) for a, b in ends)


def test_a_margin_ends_at_the_volume():
    assert geometry.dilate(box((0, 3), (4, 6), (8, 10)), (2, 2, 1), (10, 10, 10)) == box((0, 5), (2, 8), (7, 10))


@pytest.mark.parametrize(
    ("ends", "expected"),
    [((10, 14), [8]), ((0, 3), [0]), ((17, 20), [12]), ((11, 14), [8]), ((6, 14), [6]), ((2, 17), [2, 6, 9])],
    ids=["centred", "at the first edge", "at the last edge", "odd", "just fits", "sliding window"],
)
def test_positions_along_one_axis(ends, expected):
    found = geometry.crops_over(box(ends, (0, 8), (0, 8)), (8, 8, 8), (20, 8, 8), 0.5)
    assert [crop[0].start for crop in found] == expected
    assert all(crop[1:] == box((0, 8), (0, 8)) for crop in found)


def test_crops_come_in_nnunets_order():
    found = geometry.crops_over(box((0, 12), (0, 8), (0, 12)), (8, 8, 8), (12, 8, 12), 0.5)
    assert [(c[0].start, c[2].start) for c in found] == [(0, 0), (0, 4), (4, 0), (4, 4)]


@settings(deadline=None)
@given(st.data())
def test_every_voxel_of_the_box_is_in_a_crop_and_every_crop_in_the_volume(data):
    crop = data.draw(st.tuples(*[st.integers(4, 12)] * 3))
    shape = tuple(data.draw(st.integers(c, 40)) for c in crop)
    ends = [sorted(data.draw(st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True))) for n in shape]
    wanted, step = box(*ends), data.draw(st.sampled_from([0.25, 0.5, 1.0]))
    found = geometry.crops_over(wanted, crop, shape, step)
    assert geometry.covered(found, shape)[wanted].all()
    assert all(tuple(s.stop - s.start for s in c) == crop for c in found)
    assert all(geometry.inside(c, box(*((0, n) for n in shape))) for c in found)


@given(st.tuples(*[st.integers(4, 20)] * 3), st.sampled_from([0.3, 0.5, 1.0]))
def test_a_box_that_is_the_volume_gives_nnunets_sliding_window(shape, step):
    crop = (4, 4, 4)
    steps = compute_steps_for_sliding_window(shape, crop, step)
    expected = [(z, y, x) for z in steps[0] for y in steps[1] for x in steps[2]]
    found = geometry.crops_over(box(*((0, n) for n in shape)), crop, shape, step)
    assert [tuple(s.start for s in c) for c in found] == expected


def test_a_box_in_the_image_it_came_from():
    found = geometry.to_image(box((0, 2), (1, 3), (2, 4)), (1.5, 1.0, 2.0), (10, 20, 30), (2, 0, 1))
    assert found == box((34, 38), (10, 13), (21, 23))


def test_a_part_of_a_voxel_belongs_to_the_box_in_the_image():
    found = geometry.to_image(box((1, 3), (1, 3), (1, 3)), (1.25, 0.75, 1.0), (0, 0, 0), (0, 1, 2))
    assert found == box((1, 4), (0, 3), (1, 3))


class Identity(torch.nn.Module):
    """Gives its first three channels as logits: what comes out is what went in."""

    def forward(self, x):
        return x[:, :3].clone()


def test_ten_thousand_boxes_through_crops_padding_and_export(folders):
    """Inside the crops the volume as it was, outside the background; then nnU-Net's way back to the image."""
    rng, planned = np.random.default_rng(0), models.plans()
    labels = PlansManager(planned).get_label_manager(models.dataset_json())
    made = models.predictor(*folders)
    made.network = Identity()
    background = np.float32(made.background_logits()[0])
    for _ in range(RUNS):
        shape = tuple(int(n) for n in rng.integers(1, 9, 3))
        size = tuple(int(n) for n in rng.integers(1, 9, 3))
        made.settings = CascadeSettings(crop_size=size)
        wanted = some_box(rng, shape)
        x = torch.from_numpy(rng.integers(-8, 8, (7, *shape)) + 0.5).float()  # exact in half precision
        with made._crops_for([Component(wanted, 1.0)], shape):
            whole = made.predict_sliding_window_return_logits(x).numpy()
            crops = [geometry.shift(b, [-o for o in made._crops.offset]) for b in made._crops.boxes]
        inside = geometry.covered([geometry.dilate(b, (0, 0, 0), shape) for b in crops], shape)
        assert inside[wanted].all()
        np.testing.assert_array_equal(whole[:, inside], x[:3].numpy()[:, inside])
        assert (whole[:, ~inside] == background).all()
        _through_export(planned, labels, whole.astype(np.float32), shape, rng.permutation(3), rng)


def _through_export(planned, labels, logits, shape, order, rng):
    """nnU-Net's export of the uncropped logits is what labelling them by hand in the image gives."""
    planned |= {"transpose_forward": order.tolist(), "transpose_backward": np.argsort(order).tolist()}
    manager = PlansManager(planned)
    low, high = rng.integers(0, 3, 3), rng.integers(0, 3, 3)
    spacing = rng.uniform(0.4, 5, 3)
    properties = {
        "spacing": spacing[np.argsort(order)].tolist(),
        "shape_before_cropping": tuple(int(n) for n in low + shape + high),
        "bbox_used_for_cropping": [[int(a), int(a + n)] for a, n in zip(low, shape, strict=True)],
        "shape_after_cropping_and_before_resampling": shape,
    }
    found = convert_predicted_logits_to_segmentation_with_correct_shape(
        torch.from_numpy(logits), manager, manager.get_configuration("3d_fullres"), labels, properties
    )
    expected = np.zeros(properties["shape_before_cropping"], np.uint8)
    by_hand = np.select([logits[2] > 0, logits[1] > 0, logits[0] > 0], [3, 1, 2])  # ET over TC over WT
    expected[tuple(slice(a, a + n) for a, n in zip(low, shape, strict=True))] = by_hand
    np.testing.assert_array_equal(found, expected.transpose(np.argsort(order)))


def test_the_images_geometry_comes_back_bit_for_bit(tmp_path):
    rng, io = np.random.default_rng(1), SimpleITKIO()
    for run in range(50):
        turned = np.eye(3)[rng.permutation(3)] * rng.choice([-1, 1], 3)  # NIfTI rounds oblique axes
        image = SimpleITK.GetImageFromArray(rng.normal(size=rng.integers(2, 7, 3)).astype(np.float32))
        image.SetDirection((turned * np.linalg.det(turned)).ravel())
        image.SetSpacing(rng.uniform(0.3, 6, 3))
        image.SetOrigin(rng.normal(size=3) * 100)
        SimpleITK.WriteImage(image, str(tmp_path / f"{run}.nii.gz"))
        data, properties = io.read_images([str(tmp_path / f"{run}.nii.gz")])
        part = some_box(rng, data.shape[1:])
        mask = geometry.covered([part], data.shape[1:]).astype(np.uint8)
        io.write_seg(mask, str(tmp_path / f"{run}_seg.nii.gz"), properties)
        read, written = (SimpleITK.ReadImage(str(tmp_path / f"{run}{end}.nii.gz")) for end in ("", "_seg"))
        for get in ("GetSpacing", "GetOrigin", "GetDirection", "GetSize"):
            assert getattr(read, get)() == getattr(written, get)()
