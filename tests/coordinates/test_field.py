import blosc2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunet_ext.coordinates.field import WithCoordinates, coordinates

SIZES = st.lists(st.integers(1, 9), min_size=3, max_size=3)


def test_a_volume_small_enough_to_write_down():
    found = coordinates((2, 3, 1))
    np.testing.assert_array_equal(found[0, :, 0, 0], [1, 3])
    np.testing.assert_array_equal(found[1, 0, :, 0], [1, 2, 3])
    np.testing.assert_array_equal(found[2, 0, 0], [2])
    assert found.dtype == np.float32


@given(shape=SIZES)
def test_each_channel_is_the_obvious_loop(shape):
    found = coordinates(shape)
    for voxel in np.ndindex(*shape):
        expected = [1 + 2 * i / (n - 1) if n > 1 else 2 for i, n in zip(voxel, shape, strict=True)]
        np.testing.assert_allclose(found[(slice(None), *voxel)], expected, atol=1e-6)


@given(shape=SIZES)
def test_no_place_inside_has_the_number_with_which_nnunet_pads(shape):
    assert (coordinates(shape) >= 1).all()


@given(shape=SIZES, data=st.data())
def test_a_window_is_cut_from_the_whole(shape, data):
    bounds = [sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in shape]
    window = [slice(*b) for b in bounds]
    np.testing.assert_array_equal(coordinates(shape, window), coordinates(shape)[(slice(None), *window)])


def image(shape=(2, 5, 6, 7)):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_the_image_is_followed_by_the_coordinates():
    stored = image()
    found = WithCoordinates(stored)
    expected = np.concatenate([stored, coordinates(stored.shape[1:])])
    assert (found.shape, found.ndim, found.dtype) == (expected.shape, 4, np.float32)
    np.testing.assert_array_equal(found[:], expected)
    np.testing.assert_array_equal(np.asarray(found), expected)
    window = (slice(None), slice(1, 3), slice(0, 6), slice(-3, None))
    np.testing.assert_array_equal(found[window], expected[window])
    np.testing.assert_array_equal(found[1:4, 2:3], expected[1:4, 2:3])


@pytest.mark.parametrize("key", [0, (slice(None), 1), slice(None, None, 2), ...])
def test_what_is_no_window_is_refused(key):
    with pytest.raises(IndexError, match="slices of step 1"):
        WithCoordinates(image())[key]


def test_only_the_window_is_read():
    asked = []

    class Watched:
        shape, dtype = (2, 5, 6, 7), np.dtype(np.float32)

        def __getitem__(self, key):
            asked.append(key)
            return image()[key]

    WithCoordinates(Watched())[:, 1:2, 2:4, 3:7]
    assert asked == [(slice(None), slice(1, 2), slice(2, 4), slice(3, 7))]


def test_blosc2_files_are_read(tmp_path):
    stored = image()
    blosc2.asarray(stored, urlpath=str(tmp_path / "a.b2nd"))
    found = WithCoordinates(blosc2.open(str(tmp_path / "a.b2nd"), mode="r"))
    np.testing.assert_array_equal(found[:, 1:4], WithCoordinates(stored)[:, 1:4])
