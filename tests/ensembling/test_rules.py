"""Weights and their scores against plain loops, by hand, and by laws."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from nnunetv2.ensembling.ensemble import average_probabilities

from nnunet_ext.ensembling import RULES, judging
from nnunet_ext.ensembling.outputs import ALL, Outputs
from nnunet_ext.ensembling.probabilities import merge, properties_of, read, shape_of, shares_of
from nnunet_ext.ensembling.rules import MOST, Scores, by_channel, candidates, corners, parts_of, score
from nnunet_ext.ensembling.scoring import Decisive
from tests.ensembling.models import LABELS, PLANS, PROPERTIES, REGIONS, dataset

KINDS = {"regions": REGIONS, "labels": LABELS}
SETS = {"WT": {1, 2, 3}, "TC": {1, 3}, "ET": {3}}
SHAPE = (2, 3, 4)
SHARES = st.lists(st.floats(0.125, 1, width=32), min_size=3, max_size=3)


def outputs(kind="regions", ignore=None):
    labels = {**KINDS[kind], "ignore": ignore} if ignore else KINDS[kind]
    given = dataset(labels)
    return Outputs.of({**given, "regions_class_order": [2, 1, 3]} if kind == "regions" else given, PLANS)


# --- the mean


@pytest.mark.parametrize("models", [1, 2, 3, 5])
@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_equal_shares_are_nnunets_mean(tmp_path, models, kind):
    generator = np.random.default_rng(models)
    paths = [tmp_path / f"{i}.npz" for i in range(models)]
    for path in paths:
        np.savez_compressed(path, probabilities=generator.random((3, *SHAPE)).astype(kind))
    shares = shares_of(np.full(models, 1 / models))
    assert np.array_equal(merge(map(read, paths), shares), average_probabilities(list(map(str, paths))))
    assert shape_of(paths[0]) == (3, *SHAPE)


def test_the_weighted_mean_by_hand():
    volumes = [np.array([[0.2], [0.4]], np.float32), np.array([[0.6], [0.8]], np.float32)]
    weights = np.array([[0.25, 0.5], [0.75, 0.5]])
    assert merge(volumes, shares_of(weights)[:, :, None]).ravel() == pytest.approx([0.5, 0.6])


def test_properties_are_plain_data(tmp_path):
    (tmp_path / "c.pkl").write_bytes(pickle.dumps(PROPERTIES))
    found = properties_of(tmp_path / "c.npz")
    assert found["sitk_stuff"] == PROPERTIES["sitk_stuff"]
    assert found["class_locations"][1].tolist() == [0, 1, 2]
    (tmp_path / "c.pkl").write_bytes(pickle.dumps(print))
    with pytest.raises(ValueError, match=r"builtins\.print"):
        properties_of(tmp_path / "c.npz")


# --- Dice from what is left of a case, against whole volumes


def plain_dice(kind, volumes, weights, truth, ignore=None):
    """Voxel by voxel, from the definition."""
    counts = {region: [0, 0, 0] for region in SETS}
    for place in np.ndindex(truth.shape):
        if truth[place] == ignore:
            continue
        mean = []
        for channel in range(len(volumes[0])):
            share = [np.float32(w) for w in weights[:, channel] / weights[:, channel].max()]
            top, bottom = np.float32(0), np.float32(0)
            for volume, one in zip(volumes, share, strict=True):
                top, bottom = top + volume[(channel, *place)] * one, bottom + one
            mean.append(top / bottom)
        label = 0
        if kind == "regions":
            for value, own in zip(mean, (2, 1, 3), strict=True):
                label = own if value > 0.5 else label
        else:
            label = mean.index(max(mean))
        for region, labels in SETS.items():
            predicted, real = label in labels, truth[place] in labels
            counts[region] = [a + b for a, b in zip(counts[region], (predicted, real, predicted and real), strict=True)]
    return [2 * common / (p + r) if p + r else 1.0 for p, r, common in counts.values()]


def drawn(kind, seed, models=3):
    """Values at and around one half, and such that all models agree on, are frequent."""
    generator = np.random.default_rng(seed)
    values = np.array([0, 0.3, 0.49999, 0.5, 0.50001, 0.5000001, 0.7, 1], np.float32)
    volumes = [values[generator.integers(0, 8, (3, *SHAPE))] for _ in range(models)]
    agreed = generator.random(SHAPE) < 0.4
    volumes[0][:, agreed] = generator.integers(0, 2, (3, agreed.sum()))
    for volume in volumes[1:]:
        volume[:, agreed] = volumes[0][:, agreed]
    if kind == "labels":
        full = [
            np.concatenate([generator.choice(values, (1, *SHAPE)), volume]) + np.float32(0.01) for volume in volumes
        ]
        volumes = [(volume / volume.sum(0)).astype(np.float32) for volume in full]
    return volumes, generator.integers(0, 4, SHAPE)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40)
@given(seed=st.integers(0, 10_000), shares=st.lists(SHARES, min_size=3, max_size=3), zero=st.booleans())
def test_dice_of_what_is_left_is_that_of_whole_volumes(kind, seed, shares, zero):
    volumes, truth = drawn(kind, seed)
    own = outputs(kind)
    weights = np.array(shares).T
    weights[0] *= not zero
    weights = weights if kind == "regions" else np.repeat(weights[:, :1], 4, axis=1)
    case = Decisive.of(own, volumes, truth)
    assert case.dice(own, weights).tolist() == plain_dice(kind, volumes, weights, truth)
    assert case.probabilities.shape[2] < truth.size or kind == "labels"


def test_a_region_that_neither_has_counts_1():
    empty = [np.zeros((3, *SHAPE), np.float32)] * 2
    case = Decisive.of(outputs(), empty, np.zeros(SHAPE, int))
    assert case.dice(outputs(), np.full((2, 3), 0.5)).tolist() == [1] * len(SETS)


def test_ignored_voxels_count_for_nothing():
    volumes, truth = drawn("labels", 3)
    truth[0] = 4
    own = outputs("labels", ignore=4)
    weights = np.full((3, 4), 1 / 3)
    assert Decisive.of(own, volumes, truth).dice(own, weights).tolist() == plain_dice(
        "labels", volumes, weights, truth, 4
    )


def test_what_all_models_say_is_not_kept():
    sure = np.where(np.arange(24).reshape(1, *SHAPE) < 8, np.float32(0.9), np.float32(0.1)).repeat(3, axis=0)
    other = sure.copy()
    other[1, 0, 0, 0] = 0.2
    case = Decisive.of(outputs(), [sure, other], np.full(SHAPE, 3))
    assert case.probabilities.shape == (2, 3, 1)
    assert case.by_map[:, 0].tolist() == [7, 7, 7]


def test_stored_and_read_again(tmp_path):
    volumes, truth = drawn("regions", 5)
    case = Decisive.of(outputs(), volumes, truth)
    case.save(tmp_path / "c.npz")
    weights = np.array([[0.2, 0.3, 0.4], [0.5, 0.1, 0.2], [0.3, 0.6, 0.4]])
    again = Decisive.load(tmp_path / "c.npz")
    assert again.dice(outputs(), weights).tolist() == case.dice(outputs(), weights).tolist()


# --- the rules


def four_voxels():
    """Two models, one region, four voxels; the reference has the first two.

    A voxel is in the ensemble if w a + (1 - w) b > 0.5: the first above w = 0.143, the second below 0.25, the third
    never up to 0.8, the fourth below 0.111. Between 0.143 and 0.25 the Dice is 1; equal weights have 2 / 3, both models
    alone 1 / 2 (the first: voxels 1 and 3) and 1 / 2 (the second: voxels 2 and 4).
    """
    first = np.array([0.8, 0.2, 0.6, 0.1], np.float32)
    second = np.array([0.45, 0.6, 0.1, 0.55], np.float32)
    truth = np.array([3, 3, 0, 0]).reshape(1, 1, 4)
    volumes = [np.tile(values, (3, 1)).reshape(3, 1, 1, 4) for values in (first, second)]
    return Decisive.of(outputs(), volumes, truth)


def scores_of(cases, points):
    found = [score(outputs(), case, points) for case in cases]
    return Scores(points, {group: np.stack([one[group] for one in found]) for group in found[0]})


def test_two_models_by_hand():
    points = candidates(2)
    scores = scores_of([four_voxels()], points)
    dice = dict(zip((round(p[0], 2) for p in points[1:]), scores.dice["ET"][0, 1:, 0], strict=True))
    assert [w for w, value in dice.items() if value == 1] == [0.15, 0.2]
    assert scores.dice["ET"][0, 0, 0] == pytest.approx(2 / 3)
    assert scores.dice["ET"][0, corners(points), 0].tolist() == [0.5, 0.5]
    assert scores.weights("search", [0])["ET"].tolist() == [0.2, 0.8]  # of 0.15 and 0.2 the closer one to equal weights
    assert scores.weights("inverse_error", [0])["ET"].tolist() == [0.5, 0.5]
    assert scores.weights("average", [0])["ET"].tolist() == [0.5, 0.5]


def made_up(dice_of_models):
    """Scores of one region whose models alone have these Dice; other points have none."""
    points = candidates(len(dice_of_models))
    dice = np.zeros((1, len(points), 1))
    dice[0, corners(points), 0] = dice_of_models
    return Scores(points, {"WT": dice})


def test_inverse_errors_by_hand():
    assert made_up([0.9, 0.8]).weights("inverse_error", [0])["WT"] == pytest.approx([2 / 3, 1 / 3])
    assert made_up([0.9, 1.0]).weights("inverse_error", [0])["WT"] == pytest.approx([0, 1], abs=1e-4)
    assert made_up([1.0, 1.0]).weights("inverse_error", [0])["WT"].tolist() == [0.5, 0.5]


def test_the_best_single_model_has_the_best_mean_of_all_regions():
    points = candidates(2)
    dice = {name: np.zeros((1, len(points), 1)) for name in ("WT", "TC", "ET")}
    for name, values in {"WT": (0.9, 0.8), "TC": (0.9, 0.8), "ET": (0.1, 0.9)}.items():
        dice[name][0, corners(points), 0] = values
    assert {tuple(w) for w in Scores(points, dice).weights("single", [0]).values()} == {(0, 1)}


@pytest.mark.parametrize("models", [1, 2, 3, 4, 5, 7, 12, 30])
def test_the_lattice(models):
    points = candidates(models)
    assert len(points) <= MOST + 1
    assert np.allclose(points.sum(axis=1), 1)
    assert (points >= 0).all()
    assert len(np.unique(points[1:].round(9), axis=0)) == len(points) - 1
    assert points[corners(points)].tolist() == np.eye(models).tolist()
    assert np.allclose(points[1:] * parts_of(models), np.round(points[1:] * parts_of(models)))
    assert (shares_of(points[:1].T) == 1).all()


@settings(max_examples=50)
@given(arrays(float, (4, len(candidates(3)), 2), elements=st.floats(0, 1, width=16)), st.permutations(range(3)))
def test_laws_of_the_rules(dice, order):
    points = candidates(3)
    scores = Scores(points, {"all": dice})
    found = {rule: scores.weights(rule, np.arange(4))["all"] for rule in RULES}
    means = dice.mean(axis=(0, 2))
    for rule, weights in found.items():
        assert weights.sum() == pytest.approx(1), rule
        assert (weights >= 0).all()
    best = int(np.flatnonzero((points == found["search"]).all(axis=1))[0])
    assert means[best] == means.max()  # no worse than equal weights or any model
    assert found["single"].argmax() == means[corners(points)].argmax()
    assert (np.diff(found["inverse_error"][np.argsort(means[corners(points)])]) >= -1e-12).all()
    # cases that are not asked for change nothing
    other = dice.copy()
    other[order[0]] = 0
    rest = np.setdiff1d(np.arange(4), order[0])
    for rule in RULES:
        again = Scores(points, {"all": other}).weights(rule, rest)["all"]
        assert again.tolist() == scores.weights(rule, rest)["all"].tolist()


def test_weights_reach_their_channels():
    weights = {"WT": np.array([0.1, 0.9]), "TC": np.array([0.2, 0.8]), "ET": np.array([0.3, 0.7])}
    assert by_channel(outputs(), weights).tolist() == [[0.1, 0.2, 0.3], [0.9, 0.8, 0.7]]
    assert by_channel(outputs("labels"), {ALL: np.array([0.1, 0.9])}).tolist() == [[0.1] * 4, [0.9] * 4]


# --- what it is worth


def test_parts_are_folds_or_taken_in_turn():
    cases = ["a", "b", "c", "d"]
    parts = judging.parts_of(cases, {"a": "0", "b": "1", "c": "0", "d": "1"})
    assert [part.tolist() for part in parts] == [[0, 2], [1, 3]]
    assert [part.tolist() for part in judging.parts_of(list("abcdefg"), {})] == [[0, 5], [1, 6], [2], [3], [4]]
    with pytest.raises(ValueError, match="at least two"):
        judging.parts_of(["a"], {})


def test_of_equal_rules_the_simplest_wins():
    equal = {rule: np.full((3, 2), 0.5) for rule in RULES}
    assert judging.winner(equal, [0, 1]) == "average"
    better = {**equal, "search": np.array([[0.5, 0.6]] * 3)}
    assert judging.winner(better, [0]) == "average"
    assert judging.winner(better, [1]) == "search"


def test_gains_by_hand():
    dice = {"average": np.array([[0.6], [0.8]]), "single": np.array([[0.5], [0.5]])}
    dice = {**dice, "search": dice["average"], "inverse_error": dice["single"], "written": dice["average"]}
    rows = {(r["region"], r["rule"]): r for r in judging.rows("test", dice, ["WT"], [np.arange(2)])}
    row = rows["WT", "written"]
    assert (row["Dice"], row["gain_over_single"], row["gain_over_average"]) == pytest.approx((0.7, 0.2, 0))
    assert row["low_over_single"] < 0.2 < row["high_over_single"]
    assert (row["low_over_average"], row["high_over_average"]) == (0, 0)
    assert rows["mean", "single"]["Dice"] == 0.5
