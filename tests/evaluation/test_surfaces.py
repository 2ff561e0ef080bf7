"""Border voxels and surface elements against scipy, DeepMind's table and hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import binary_dilation, binary_erosion, generate_binary_structure

from nnunet_ext.evaluation.surfaces import (
    CUBE,
    SQUARE,
    areas_of_codes,
    around,
    border,
    box_of,
    corner_codes,
    grown,
    padded,
)

MASKS = st.lists(st.integers(1, 5), min_size=2, max_size=3).flatmap(lambda shape: arrays(np.bool_, shape))


@given(MASKS)
@settings(max_examples=200, deadline=None)
def test_border_is_what_erosion_takes_away(mask):
    assert np.array_equal(border(mask), mask ^ binary_erosion(mask))


@given(MASKS)
@settings(max_examples=100, deadline=None)
def test_corner_codes_say_which_voxels_meet(mask):
    codes = corner_codes(mask)
    assert codes.shape == tuple(n + 1 for n in mask.shape)
    for place in np.ndindex(codes.shape):
        corners = list(np.ndindex((2,) * mask.ndim))
        voxels = [tuple(p + c - 1 for p, c in zip(place, corner, strict=True)) for corner in corners]
        there = [all(0 <= v < n for v, n in zip(voxel, mask.shape, strict=True)) and mask[voxel] for voxel in voxels]
        assert codes[place] == sum(1 << bit for bit, inside in enumerate(there) if inside)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.3, 0.7, 2.1), (5.0, 0.9375, 0.9375)])
def test_areas_are_those_of_deepminds_table(spacing):
    from surface_distance import lookup_tables

    theirs = lookup_tables.create_table_neighbour_code_to_surface_area(spacing)
    kernel = lookup_tables.ENCODE_NEIGHBOURHOOD_3D_KERNEL
    ours = areas_of_codes(spacing)
    for code in range(256):
        inside = np.array([bool(code >> bit & 1) for bit in range(8)]).reshape(2, 2, 2)
        assert ours[code] == pytest.approx(theirs[(kernel * inside).sum()], rel=1e-12)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (1.3, 0.7)])
def test_lengths_are_those_of_deepminds_table(spacing):
    from surface_distance import lookup_tables

    theirs = lookup_tables.create_table_neighbour_code_to_contour_length(spacing)
    kernel = lookup_tables.ENCODE_NEIGHBOURHOOD_2D_KERNEL
    ours = areas_of_codes(spacing)
    for code in range(16):
        inside = np.array([bool(code >> bit & 1) for bit in range(4)]).reshape(2, 2)
        assert ours[code] == pytest.approx(theirs[(kernel * inside).sum()], rel=1e-12)


def test_every_choice_of_corners_has_one_row():
    assert (len(CUBE), len(SQUARE)) == (14, 4)
    assert (len(areas_of_codes((1.0, 1.0, 1.0))), len(areas_of_codes((1.0, 1.0)))) == (256, 16)


def test_the_surface_of_a_voxel():
    codes = corner_codes(np.ones((1, 1, 1), bool))
    # an octahedron: eight triangles with the legs 1/2
    assert areas_of_codes((1.0, 1.0, 1.0))[codes].sum() == pytest.approx(8 * np.sqrt(3) / 8)


@given(MASKS, st.integers(0, 3))
@settings(max_examples=100, deadline=None)
def test_growing_is_dilation(mask, steps):
    structure = generate_binary_structure(mask.ndim, 2)
    expected = binary_dilation(mask, structure, iterations=steps) if steps else mask
    assert np.array_equal(grown(mask, steps), expected)


@given(MASKS, st.integers(1, 3))
@settings(max_examples=50, deadline=None)
def test_padding_is_numpys(mask, width):
    assert np.array_equal(padded(mask, width), np.pad(mask, width))


@given(MASKS, st.integers(0, 2))
@settings(max_examples=100, deadline=None)
def test_a_box_ends_at_the_outermost_voxels(mask, margin):
    places = np.argwhere(mask)
    ends = zip(places.min(axis=0), places.max(axis=0), mask.shape, strict=True) if len(places) else ()
    expected = tuple(slice(max(int(a) - margin, 0), min(int(b) + 1 + margin, n)) for a, b, n in ends)
    assert box_of(mask, margin) == (expected or None)


def test_boxes():
    mask = np.zeros((5, 6, 7), bool)
    assert box_of(mask) is None
    mask[1, 2, 3] = mask[3, 2, 6] = True
    assert box_of(mask) == (slice(1, 4), slice(2, 3), slice(3, 7))
    assert box_of(mask, 2) == (slice(0, 5), slice(0, 5), slice(1, 7))
    assert around([(slice(1, 2), slice(5, 6)), (slice(0, 1), slice(7, 9))]) == (slice(0, 2), slice(5, 9))
