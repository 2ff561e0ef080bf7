"""Nested cross-validation, the finder of leaks, ensembles, conformal intervals."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from nnunet_ext.outcomes import combining, conformal, leaks
from nnunet_ext.outcomes.cases import Predictions
from nnunet_ext.outcomes.metrics import measured
from nnunet_ext.outcomes.nested import Split, nested
from tests.outcomes.samples import COLUMNS, GRADE, SCORE, STAGE, drawn


def splits_of(cases, folds=4):
    """Of indices, by patients of two cases each."""
    made = GroupKFold(folds).split(cases, groups=cases // 2)
    return [Split(cases[training], cases[test]) for training, test in made]


# --- leaks

N, FEATURES = 40, 300


def procedure(select_inside):
    """Cross-validated AUC of a logistic regression on the 5 of 300 features that go best with the targets."""
    features = np.random.default_rng(0).normal(size=(N, FEATURES))

    def score(truth):
        steps = [StandardScaler(), LogisticRegression()]
        chosen = features if select_inside else SelectKBest(k=5).fit_transform(features, truth)
        model = make_pipeline(*([SelectKBest(k=5)] if select_inside else []), *steps)
        values = []
        for training, test in splits_of(np.arange(N)):
            probability = model.fit(chosen[training], truth[training]).predict_proba(chosen[test])
            found = Predictions(truth[test], probability.argmax(1), probability)
            values.append(measured(GRADE, found)["auc"].value)
        return float(np.nanmean(values))

    return score


TRUTH = np.arange(N) // 2 % 2
PATIENTS = [str(i // 2) for i in range(N)]


def test_selecting_features_outside_the_folds_is_found():
    found = leaks.check(procedure(select_inside=False), TRUTH, PATIENTS, chance=0.5, permutations=8)
    assert found.found
    assert found.mean > 0.8  # noise looks like a finding


def test_selecting_them_inside_is_no_leak():
    found = leaks.check(procedure(select_inside=True), TRUTH, PATIENTS, chance=0.5, permutations=8)
    assert not found.found
    assert found.mean == pytest.approx(0.5, abs=0.15)


def test_a_cut_point_chosen_on_all_cases_is_found():
    """A threshold is tuned on the test cases as well, or on the training cases only."""
    marker = np.random.default_rng(1).normal(size=N)

    def cut_everywhere(inside):
        def score(truth):
            values = []
            for training, test in splits_of(np.arange(N)):
                seen = training if inside else test
                cut, sign = max(
                    ((c, s) for c in marker for s in (1, -1)),
                    key=lambda p: ((p[1] * (marker[seen] - p[0]) > 0) == truth[seen]).mean(),
                )
                values.append(((sign * (marker[test] - cut) > 0) == truth[test]).mean())
            return float(np.mean(values))

        return score

    assert leaks.check(cut_everywhere(False), TRUTH, PATIENTS, chance=0.5, permutations=8).found
    assert not leaks.check(cut_everywhere(True), TRUTH, PATIENTS, chance=0.5, permutations=8).found


def test_permutations_keep_the_targets_of_a_patient_together():
    generator = np.random.default_rng(0)
    for _ in range(20):
        truth = leaks.permuted(TRUTH, PATIENTS, generator)
        assert (truth[::2] == truth[1::2]).all()
        assert truth.sum() == TRUTH.sum()
    mixed = leaks.permuted(np.arange(N), PATIENTS, generator)
    assert sorted(mixed) == list(range(N))


def test_scores_without_spread_are_judged_by_themselves():
    assert leaks.check(lambda truth: 1.0, TRUTH, PATIENTS, chance=0.5, permutations=3).found
    assert not leaks.check(lambda truth: 0.5, TRUTH, PATIENTS, chance=0.5, permutations=3).found
    assert not leaks.check(lambda truth: float("nan"), TRUTH, PATIENTS, chance=0.5, permutations=3).found
    with pytest.raises(ValueError, match=r"1 permutations say nothing about their spread; take 2 or more"):
        leaks.check(lambda truth: 1.0, TRUTH, PATIENTS, chance=0.5, permutations=1)


# --- nested cross-validation


def noise_candidates(truth, count):
    """Probabilities that know nothing: luck decides which candidate is the best."""
    noise = np.random.default_rng(5).random((count, len(truth)))

    def candidate(positive):
        found = Predictions(truth, (positive > 0.5).astype(int), np.stack([1 - positive, positive], 1))
        return lambda split: found.take(split.test)

    return {f"noise {i}": candidate(positive) for i, positive in enumerate(noise)}


def test_the_nested_value_does_not_reward_luck():
    patients = [str(i // 2) for i in range(48)]
    values, optimistic = [], []
    for seed in range(6):
        truth = np.random.default_rng(seed).permutation(np.arange(48) % 2)
        found = nested(GRADE, noise_candidates(truth, 12), splits_of(np.arange(48)), splits_of, patients)
        assert len(found.chosen) == 4
        values.append(found.values["auc"])
        optimistic.append(found.optimistic["auc"])
    assert np.mean(optimistic) > 0.6  # the best of twelve looks like something
    assert np.mean(values) == pytest.approx(0.5, abs=0.06)


def test_a_true_candidate_is_chosen_in_every_fold():
    truth = np.random.default_rng(6).permutation(np.arange(48) % 2)
    patients = [str(i // 2) for i in range(48)]
    known = Predictions(truth, truth, np.eye(2)[truth])
    candidates = {**noise_candidates(truth, 3), "true": lambda split: known.take(split.test)}
    found = nested(GRADE, candidates, splits_of(np.arange(48)), splits_of, patients)
    assert found.chosen == ("true",) * 4
    assert found.values["auc"] == 1
    assert found.values == found.optimistic


def test_where_nothing_passes_nothing_is_chosen():
    truth = np.random.default_rng(6).normal(size=48)
    found = nested(
        SCORE,
        {"bad": lambda split: Predictions(truth[split.test], -5 * truth[split.test])},
        splits_of(np.arange(48)),
        splits_of,
        [str(i // 2) for i in range(48)],
    )
    assert found.chosen == ("",) * 4
    assert np.isnan(found.values["mae"])
    assert found.optimistic == {}


def test_splits_that_leak_are_refused():
    truth = np.arange(8.0)
    candidates = {"x": lambda split: Predictions(truth[split.test], truth[split.test])}
    outer = [Split(np.arange(4), np.arange(4, 8))]
    half = lambda cases: [Split(cases[:2], cases[2:])]  # noqa: E731 - an argument with a name
    with pytest.raises(ValueError, match=r"The patient p is trained on and tested in one split; split by patient"):
        nested(SCORE, candidates, outer, half, ["p", *"abcd", "p", *"ef"])
    with pytest.raises(ValueError, match=r"An inner split uses case 7, which the outer one tests"):
        nested(SCORE, candidates, outer, lambda cases: [Split(cases[:2], np.array([3, 7]))], list("abcdefgh"))


# --- ensembles


def models_of(column, n=30, count=3):
    first = drawn(column, n, 0, 1.0)
    others = [drawn(column, n, seed, 1.0) for seed in range(1, count)]
    return [first, *(replace(o, truth=first.truth, censored=first.censored) for o in others)]


@pytest.mark.parametrize("column", COLUMNS, ids=lambda c: c.name)
@pytest.mark.parametrize("method", combining.METHODS)
def test_weights_are_shares_and_the_ensemble_is_no_worse_than_its_worst(column, method):
    models = models_of(column)
    weights = combining.METHODS[method](column, models)
    assert weights.sum() == pytest.approx(1)
    assert (weights >= 0).all()
    together = combining.losses(column, [combining.combined(column, models, weights)])[0]
    assert together <= combining.losses(column, models).max() + 1e-12  # both losses are convex
    if method == "grid":
        assert together <= combining.losses(column, models).min() + 1e-12  # the corners are points of the grid


def test_weights_by_hand():
    truth = np.zeros(4)
    models = [Predictions(truth, truth + 1), Predictions(truth, truth - 3)]
    assert combining.inverse_error(SCORE, models).tolist() == [0.75, 0.25]
    # 0.75 - 0.75 is nothing; on the grid of tenths 0.7 and 0.8 leave 0.2 each: the more even is taken
    assert combining.grid_search(SCORE, models).tolist() == pytest.approx([0.7, 0.3])
    assert combining.grid_search(SCORE, models, 0.25).tolist() == [0.75, 0.25]
    perfect = [Predictions(truth, truth), models[0], Predictions(truth, truth)]
    assert combining.inverse_error(SCORE, perfect).tolist() == [0.5, 0, 0.5]
    assert combining.grid_search(SCORE, [models[0], models[0]]).tolist() == [0.5, 0.5]


def test_the_simplex_holds_every_point_once():
    points = combining.simplex(3, 0.25)
    slow = {(a, b, 4 - a - b) for a in range(5) for b in range(5 - a)}
    assert {tuple(np.rint(4 * p).astype(int).tolist()) for p in points} == slow
    assert len(points) == len(slow) == 15
    with pytest.raises(ValueError, match=r"A grid of 12 models at the step 0.1 has 352716 points; choose fewer"):
        combining.simplex(12)


def test_levels_are_averaged_by_probability():
    truth = np.array([0, 1])
    first = Predictions(truth, np.array([0, 0]), np.array([[0.9, 0.1], [0.6, 0.4]]))
    second = Predictions(truth, np.array([1, 1]), np.array([[0.4, 0.6], [0.1, 0.9]]))
    found = combining.combined(GRADE, [first, second], np.array([0.5, 0.5]))
    assert found.prediction.tolist() == [0, 1]
    assert found.probability.tolist() == [[0.65, 0.35], [0.35, 0.65]]


def test_what_cannot_be_averaged_is_refused():
    first, second = drawn(STAGE, 6), drawn(STAGE, 6, 1)
    with pytest.raises(ValueError, match=r"Models of an ensemble are of the same cases and truth of stage"):
        combining.combined(STAGE, [first, replace(second, truth=(first.truth + 1) % 3)], np.ones(2) / 2)
    with pytest.raises(ValueError, match=r"A model gives no probabilities of stage"):
        combining.combined(STAGE, [first, Predictions(first.truth, first.prediction)], np.ones(2) / 2)


def test_a_case_or_a_patient_in_validation_and_test_is_refused():
    combining.refuse_overlap({"a": "p"}, {"b": "q"})
    with pytest.raises(ValueError, match=r"The case a of the external test was trained or validated with .1 of its 2"):
        combining.refuse_overlap({"a": "p"}, {"a": "p", "b": "q"})
    with pytest.raises(ValueError, match=r"The case b of the external test is of the same patient as a, which"):
        combining.refuse_overlap({"a": "p"}, {"b": "p"})


# --- conformal intervals


def test_half_width_by_hand():
    residuals = np.array([-4.0, 1, 2, 3, 5, 6, 7, 8, -9])
    assert conformal.half_width(residuals, 0.9) == 9
    assert conformal.half_width(residuals, 0.8) == 8
    assert conformal.half_width(residuals, 0.5) == 5
    assert conformal.half_width(residuals[:-1], 0.9) == np.inf
    assert (conformal.fewest(0.9), conformal.fewest(0.95)) == (9, 19)
    low, high = conformal.intervals(np.array([1.0, 2.0]), 2.0, np.array([1.0, 3.0]))
    assert (low.tolist(), high.tolist()) == ([-1, -4], [3, 8])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.floats(0.05, 0.99), st.integers(0, 10**6))
def test_the_rank_is_the_stated_one(n, level, seed):
    residuals = np.random.default_rng(seed).normal(size=n)
    half = conformal.half_width(residuals, level)
    # the smallest of the sizes, or infinity, under which (n + 1) level of n + 1 places lie
    slow = next((r for i, r in enumerate(sorted(abs(residuals)), 1) if i >= (n + 1) * level - 1e-9), np.inf)
    assert half == slow
    assert (half < np.inf) == (n >= conformal.fewest(level))


def test_coverage_is_the_level_whatever_the_distribution():
    generator = np.random.default_rng(0)
    covered = [
        abs(generator.exponential() * 10) <= conformal.half_width(generator.exponential(size=19) * 10, 0.9)
        for _ in range(4000)
    ]
    assert np.mean(covered) == pytest.approx(0.9, abs=0.015)  # rank 18 of 20 places: exactly 0.9


def test_bad_levels_and_residuals_are_refused():
    with pytest.raises(ValueError, match=r"The level of an interval lies between 0 and 1, not at 95"):
        conformal.half_width(np.ones(3), 95)
    with pytest.raises(ValueError, match=r"Residuals for a conformal interval are finite numbers"):
        conformal.half_width(np.array([1, np.nan]))
