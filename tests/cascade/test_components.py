"""From a mask to crops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from nnunet_ext.cascade import components, geometry
from nnunet_ext.cascade.settings import CascadeSettings
from tests.cascade.models import mask

SHAPE = (30, 30, 30)
ALL = CascadeSettings(crop_size=(8, 8, 8), min_component_ml=0, margin_mm=0)
LARGE, SMALL, TINY = ((2, 8), (2, 8), (2, 8)), ((20, 24), (20, 24), (20, 24)), ((28, 29), (2, 3), (28, 29))


def find(found, spacing=(1, 1, 1), **changes):
    return components.find(found, spacing, CascadeSettings(**{**ALL.__dict__, **changes}))


def test_components_come_largest_first_with_their_volume():
    found = find(mask(SHAPE, TINY, SMALL, LARGE), spacing=(2, 1, 0.5))
    assert [c.ml for c in found] == pytest.approx([0.216, 0.064, 0.001])
    assert found[0].box == tuple(slice(*ends) for ends in LARGE)


def test_voxels_that_touch_at_a_corner_are_one_component():
    assert len(find(mask(SHAPE, ((0, 2),) * 3, ((2, 4),) * 3))) == 1


def test_a_margin_in_mm_is_rounded_up_to_voxels():
    (found,) = find(mask(SHAPE, LARGE), spacing=(3, 1, 0.5), margin_mm=1.5)
    assert geometry.as_lists(found.box) == [[1, 9], [0, 10], [0, 11]]


def test_what_is_dropped_says_why():
    found = find(mask(SHAPE, TINY, SMALL, LARGE), max_components=1, min_component_ml=0.01)
    assert [c.dropped for c in found] == ["", components.TOO_MANY, components.TOO_SMALL]
    assert found[1].as_dict() == {"box": [[20, 24]] * 3, "ml": 0.064, "dropped": components.TOO_MANY}


def test_far_components_get_crops_of_their_own_and_near_ones_share():
    near = ((2, 4), (2, 4), (9, 10))
    done = components.cover(find(mask(SHAPE, LARGE, SMALL, near)), SHAPE, (8, 8, 8), SHAPE, 0.5)
    assert [c.crops for c in done.components] == [(0,), (1,), (2,)]
    done = components.cover(find(mask(SHAPE, LARGE, SMALL, near)), SHAPE, (12, 12, 12), SHAPE, 0.5)
    assert [c.crops for c in done.components] == [(0,), (1,), (0,)]
    assert len(done.boxes) == 2


def test_a_padded_volume_moves_the_crops():
    done = components.cover(find(mask((4, 30, 30), ((0, 4), (3, 7), (3, 7)))), (4, 30, 30), (8,) * 3, (8, 30, 30), 0.5)
    assert done.offset == (2, 0, 0)
    assert geometry.as_lists(done.boxes[0]) == [[0, 8], [1, 9], [1, 9]]


@settings(max_examples=60)
@given(arrays.arrays(bool, (9, 12, 10), elements=st.booleans(), fill=st.just(False)), st.integers(0, 3))
def test_every_voxel_of_the_kept_mask_with_its_margin_is_in_a_crop(found, margin):
    kept = find(found, margin_mm=margin, max_components=3)
    done = components.cover(kept, found.shape, (5, 5, 5), found.shape, 0.5)
    wanted = geometry.covered([c.box for c in kept if not c.dropped], found.shape)
    assert not (wanted & ~geometry.covered(done.boxes, found.shape)).any()
    assert sum(not c.dropped for c in kept) <= 3
    assert {c.dropped for c in kept} <= {"", components.TOO_MANY}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"crop_size": (8, 8)}, "three positive numbers"),
        ({"crop_size": (8, 0, 8)}, "three positive numbers"),
        ({"max_components": 0}, "At least one"),
        ({"roi_threshold": 1.0}, "probability"),
        ({"min_component_ml": -1}, "smallest component"),
        ({"margin_mm": float("nan")}, "margin"),
        ({"merge": "mean"}, "max or gaussian"),
    ],
)
def test_settings_out_of_range(change, said):
    with pytest.raises(ValueError, match=said):
        CascadeSettings(**change)


def test_an_empty_mask_has_no_components():
    assert find(np.zeros(SHAPE, bool)) == []
