"""Distances against medpy, DeepMind, MONAI, the whole volume's distance transform, and hand."""

import numpy as np
import pytest
from medpy.metric.binary import hd95
from scipy.ndimage import distance_transform_edt

from benchmarks.scoring.volumes import WAYS, masks
from nnunet_ext.evaluation.distances import Surfaces, _sorted
from nnunet_ext.evaluation.surfaces import border
from tests.evaluation.oracles import deepmind

__all__ = ["deepmind"]
SPACINGS = [(1, 1, 1), (2, 1, 1), (1.3, 0.7, 2.1), (0.9375, 0.9375, 5)]
SEEDS = range(200)


def pairs():
    """Random pairs that both have a voxel, each with a spacing."""
    for seed in SEEDS:
        reference, prediction = masks(seed)
        if reference.any() and prediction.any():
            yield reference, prediction, SPACINGS[seed % len(SPACINGS)]


@pytest.fixture(scope="module")
def measured():
    return [(pair, Surfaces.of(*pair)) for pair in pairs()]


def test_there_is_something_to_compare(measured):
    assert len(measured) > 0.7 * len(SEEDS)
    assert len(WAYS) * len(SPACINGS) < len(SEEDS)


def test_pooled_is_medpys(measured):
    for (reference, prediction, spacing), surfaces in measured:
        assert surfaces.hd95_pooled() == pytest.approx(hd95(prediction, reference, voxelspacing=spacing), abs=1e-9)


def test_directed_and_nsd_are_deepminds(measured, deepmind):
    for (reference, prediction, spacing), surfaces in measured:
        found = deepmind.compute_surface_distances(reference, prediction, spacing)
        assert surfaces.hd95_directed() == pytest.approx(deepmind.compute_robust_hausdorff(found, 95), abs=1e-9)
        for tolerance in (0, 1, 2.5):
            theirs = deepmind.compute_surface_dice_at_tolerance(found, tolerance)
            assert surfaces.nsd(tolerance) == pytest.approx(theirs, abs=1e-9)


def test_border_distances_are_monais(measured):
    """MONAI's is a third definition: the larger one of two percentiles of border voxels, unweighted."""
    import torch
    from monai.metrics import compute_hausdorff_distance

    for (reference, prediction, spacing), surfaces in measured[::4]:
        tensors = [torch.from_numpy(mask)[None, None] for mask in (prediction, reference)]
        theirs = compute_hausdorff_distance(
            *tensors, percentile=95, include_background=True, spacing=list(map(float, spacing))
        )
        ours = max(np.percentile(distances, 95) for distances in surfaces.border_distances)
        assert ours == pytest.approx(float(theirs), rel=1e-5)  # float32 there


def test_distances_are_the_whole_volumes(measured):
    for (reference, prediction, spacing), surfaces in measured[::4]:
        borders = border(reference), border(prediction)
        for own, other, found in zip(borders, borders[::-1], surfaces.border_distances, strict=True):
            assert found == pytest.approx(distance_transform_edt(~other, sampling=spacing)[own], abs=1e-9)


def test_two_dimensions_are_deepminds(deepmind):
    for seed in range(60):
        reference, prediction = (mask.any(axis=0) for mask in masks(seed))
        if not (reference.any() and prediction.any()):
            continue
        surfaces = Surfaces.of(reference, prediction, (1.3, 0.7))
        found = deepmind.compute_surface_distances(reference, prediction, (1.3, 0.7))
        assert surfaces.hd95_directed() == pytest.approx(deepmind.compute_robust_hausdorff(found, 95), abs=1e-9)
        assert surfaces.hd95_pooled() == pytest.approx(hd95(prediction, reference, voxelspacing=(1.3, 0.7)), abs=1e-9)


def single(*places, shape=(9, 9, 9)):
    mask = np.zeros(shape, bool)
    for place in places:
        mask[place] = True
    return mask


def test_elements_are_sorted_by_distance_and_then_by_area():
    generator = np.random.default_rng(0)
    distances, areas = generator.integers(0, 9, 500) / 3, generator.integers(0, 5, 500) / 7
    order = np.lexsort((areas, distances))
    found = _sorted(distances, areas)
    assert (found[0].tolist(), found[1].tolist()) == (distances[order].tolist(), areas[order].tolist())


def test_two_voxels_by_hand():
    surfaces = Surfaces.of(single((4, 4, 1)), single((4, 4, 5)), (1.0, 1.0, 0.5))
    assert surfaces.hd95_pooled() == 2.0
    # the corners of the two voxels: half of them face each other, 3 steps apart, the others are 4 apart
    assert surfaces.hd95_directed() == 2.0
    assert (surfaces.nsd(1.0), surfaces.nsd(1.5), surfaces.nsd(2.0)) == (0.0, 0.5, 1.0)
    assert (surfaces.nsd_voxel(1.9), surfaces.nsd_voxel(2.0)) == (0.0, 1.0)


def test_the_definitions_differ_by_hand():
    # 10 voxels in a row, and the same with a far one: one of 21 distances, but 6 % of the prediction's surface
    row = [(4, 4, x) for x in range(10)]
    reference, prediction = single(*row, shape=(9, 9, 60)), single(*row, (4, 4, 29), shape=(9, 9, 60))
    surfaces = Surfaces.of(reference, prediction, (1, 1, 1))
    assert surfaces.hd95_pooled() == 0.0
    assert surfaces.hd95_directed() == 19.0  # to the end of the row from the near half of the far voxel


def test_equal_masks_are_at_no_distance():
    mask = single((0, 0, 0), (8, 8, 8))
    surfaces = Surfaces.of(mask, mask.copy(), (1, 1, 1))
    assert (surfaces.hd95_pooled(), surfaces.hd95_directed(), surfaces.nsd(0), surfaces.nsd_voxel(0)) == (0, 0, 1, 1)
