"""Lesions against slow, obvious forms of the same rules."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import binary_dilation, find_objects, generate_binary_structure, label

from benchmarks.scoring.volumes import masks
from nnunet_ext.evaluation.conventions import GROWN, MATCHED
from nnunet_ext.evaluation.distances import Surfaces
from nnunet_ext.evaluation.lesions import Parts, compare, components

ALL_NEIGHBOURS = np.ones((3, 3, 3))
BOXES = st.tuples(*[st.tuples(st.integers(0, 3), st.integers(1, 3))] * 3)


@given(arrays(np.bool_, (6, 6, 6)), BOXES)
@settings(max_examples=300, deadline=None)
def test_components_of_any_view(mask, box):
    view = mask[tuple(slice(start, start + length) for start, length in box)]
    assert np.array_equal(components(view), label(view, ALL_NEIGHBOURS)[0])


def test_components_that_cc3d_misreads():
    """Both stopped or were wrong in cc3d 4.1.1: as a Boolean array, and as a view."""
    assert components(np.array([[[True, False, True]]])).tolist() == [[[1, 0, 2]]]
    volume = np.zeros((4, 5, 6), bool)
    volume[1:3, 2, 3] = True
    assert components(volume[1:3, 2:3, 3:4]).ravel().tolist() == [1, 1]


@given(arrays(np.bool_, (6, 5, 7), elements=st.integers(0, 9).map(lambda n: n == 0)))
@settings(max_examples=100, deadline=None)
def test_parts_have_the_boxes_and_sizes_of_scipy(mask):
    labels, number = label(mask, ALL_NEIGHBOURS)
    parts = Parts.of(mask)
    assert parts.boxes == find_objects(labels)
    assert parts.sizes.tolist() == [np.count_nonzero(labels == i) for i in range(1, number + 1)]


def dice(first, second):
    return 2 * np.count_nonzero(first & second) / (np.count_nonzero(first) + np.count_nonzero(second))


def slow_grown(reference, prediction):
    """Volume, Dice and HD95 of each lesion, and the number of parts that belong to none."""
    structure = generate_binary_structure(3, 2)
    parts, number = label(prediction, ALL_NEIGHBOURS)
    reach, count = label(binary_dilation(reference, structure, iterations=3), ALL_NEIGHBOURS)
    found, used = [], set()
    for index in range(1, count + 1):
        lesion = reference & (reach == index)
        own = set(np.unique(parts[binary_dilation(lesion, structure, iterations=3)])) - {0}
        used |= own
        part = np.isin(parts, list(own))
        found.append(
            (lesion.sum(), dice(lesion, part), Surfaces.of(lesion, part, (1, 1, 1)).hd95_directed() if own else None)
        )
    return found, number - len(used)


def slow_matched(reference, prediction):
    """The largest sum of Dice over all ways to give lesions different parts, and the number of pairs that overlap."""
    lesions, parts = (
        [labels == i for i in range(1, n + 1)]
        for labels, n in (label(m, ALL_NEIGHBOURS) for m in (reference, prediction))
    )
    table = np.array([[dice(lesion, part) for part in parts] for lesion in lesions])
    if len(lesions) > len(parts):
        table = table.T
    ways = (
        [table[row, column] for row, column in enumerate(chosen)]
        for chosen in permutations(range(table.shape[1]), table.shape[0])
    )
    best = max(ways, key=sum)
    return sum(best), sum(value > 0 for value in best), len(lesions), len(parts)


@pytest.mark.parametrize("start", range(0, 120, 40))
def test_grown_is_its_slow_form(start):
    for seed in range(start, start + 40):
        reference, prediction = masks(seed)
        found = compare(reference, prediction, (1, 1, 1), [GROWN])[GROWN.name]
        expected, extra = slow_grown(reference, prediction)
        assert found.extra == extra
        assert [(lesion.mm3, lesion.found) for lesion in found.found] == [(e[0], e[2] is not None) for e in expected]
        for lesion, (_, overlap, distance) in zip(found.found, expected, strict=True):
            assert lesion.dice == pytest.approx(overlap)
            assert distance is None or lesion.hd95 == pytest.approx(distance)


def test_matched_is_the_best_of_all_ways():
    tried = 0
    for seed in range(150):
        reference, prediction = masks(seed)
        numbers = [label(mask, ALL_NEIGHBOURS)[1] for mask in (reference, prediction)]
        if min(numbers) == 0 or max(numbers) > 6:
            continue
        tried += 1
        found = compare(reference, prediction, (1, 1, 1), [MATCHED])[MATCHED.name]
        total, pairs, lesions, parts = slow_matched(reference, prediction)
        assert sum(lesion.dice for lesion in found.found) == pytest.approx(total)
        assert sum(lesion.found for lesion in found.found) == pairs
        assert (len(found.found), found.extra) == (lesions, parts - pairs)
    assert tried > 50


def test_known_distances_are_used_only_where_they_are_the_lesions():
    reference, prediction = np.zeros((20, 20, 20), bool), np.zeros((20, 20, 20), bool)
    reference[2:6, 2:6, 2:6] = prediction[2:6, 2:6, 3:7] = True
    whole = Surfaces.of(reference, prediction, (1, 1, 1))
    alone = compare(reference, prediction, (1, 1, 1), [MATCHED], whole)[MATCHED.name]
    assert alone == compare(reference, prediction, (1, 1, 1), [MATCHED])[MATCHED.name]
    prediction[15:17, 15:17, 15:17] = True
    whole = Surfaces.of(reference, prediction, (1, 1, 1))
    assert compare(reference, prediction, (1, 1, 1), [MATCHED], whole)[MATCHED.name].found == alone.found
