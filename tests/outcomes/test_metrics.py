"""Metrics by hand, against scikit-learn and lifelines, and the laws that they keep."""

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lifelines.utils import concordance_index
from sklearn import metrics as sk

from nnunet_ext.outcomes.cases import Predictions
from nnunet_ext.outcomes.metrics import PRIMARY, measured, metric_named, metrics_of
from tests.outcomes.samples import COLUMNS, DAYS, GRADE, SCORE, STAGE, SUBTYPE, drawn


def values(column, found):
    return {name: value for name, (value, _) in measured(column, found).items()}


def weighted(column, found, weights):
    """Each metric with integer weights."""
    return {m.name: float(m.compute(column, found, np.asarray(weights, float)[None])[0]) for m in metrics_of(column)}


def repeated(found, weights):
    """The slow twin of weights: every case as often as it weighs."""
    return found.take(np.repeat(np.arange(len(found)), weights))


def same(first, second):
    return {k: pytest.approx(v, nan_ok=True, abs=1e-9) for k, v in first.items()} == second


# --- by hand


def test_grade_by_hand():
    # HGG is positive; scores .9 .8 .3 | .6 .1: five of the six pairs are in order
    positive = np.array([0.9, 0.8, 0.3, 0.6, 0.1])
    found = Predictions(
        np.array([1, 1, 1, 0, 0]), (positive > 0.5).astype(int), np.stack([1 - positive, positive], axis=1)
    )
    assert same(
        {
            "accuracy": 3 / 5,
            "balanced_accuracy": (2 / 3 + 1 / 2) / 2,
            "auc": 5 / 6,
            "f1": 2 / 3,
            "precision": 2 / 3,
            "recall": 2 / 3,
        },
        values(GRADE, found),
    )


def test_ordinal_by_hand():
    found = Predictions(np.array([0, 1, 2, 2]), np.array([0, 1, 1, 0]))
    got = values(STAGE, found)
    # squared steps: 0 + 0 + 1 + 4 = 5; by chance: rows (1, 1, 2), columns (2, 2, 0): (1*2 + 1*2 + 2*2*4 + 2*2) / 4 = 6
    assert got["quadratic_kappa"] == pytest.approx(1 - 5 / 6)
    assert got["class_mae"] == pytest.approx(3 / 4)
    assert math.isnan(got["auc"])  # no probabilities


def test_numbers_by_hand():
    found = Predictions(
        np.array([0.0, 2.0, 4.0]), np.array([0.5, 3.0, 1.0]), None, np.array([0, 3, 0.0]), np.full(3, 5.0)
    )
    assert same(
        {
            "mae": 1.5,
            "mse": (0.25 + 1 + 9) / 3,
            "r2": 1 - 10.25 / 8,
            "within_0.5": 1 / 3,
            "within_1": 2 / 3,
            "within_2": 2 / 3,
            "coverage": 2 / 3,
            "width": 4.0,
        },
        values(SCORE, found),
    )


def test_survival_by_hand():
    # comparable: (100, 200), (100, 400) in order; (200, 400) not; 300 is censored: earlier ones count against it
    found = Predictions(
        np.array([100.0, 200, 300, 400]), np.array([1.0, 5, 5, 4]), censored=np.array([False, False, True, False])
    )
    got = values(DAYS, found)
    assert got["c_index"] == pytest.approx((1 + 1 + 1 + 0.5 + 0) / 5)
    assert got["mae"] == pytest.approx((99 + 195 + 396) / 3)
    assert got["accuracy_of_classes"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(("days", "place"), [(299, 0), (300, 1), (450, 1), (451, 2)])
def test_classes_of_days_are_those_of_the_schema(days, place):
    from nnunet_ext.outcomes.value_metrics import classes_of

    assert classes_of(np.array([float(days)]), DAYS.cuts).tolist() == [place] == [DAYS.cut(days)]


# --- oracles, with weights


def oracle(column, found, weights):
    """scikit-learn's and lifelines' values; NaN where theirs is undefined."""
    y, p, w = found.truth, found.prediction, weights
    if column.is_discrete:
        return {**_oracle_of_levels(column, found, w), **(_oracle_of_order(y, p, w) if column is STAGE else {})}
    seen = ~found.censored
    y, p, w = y[seen], p[seen], w[seen]
    got = {
        "mae": sk.mean_absolute_error(y, p, sample_weight=w),
        "mse": sk.mean_squared_error(y, p, sample_weight=w),
        "r2": sk.r2_score(y, p, sample_weight=w),
    }
    if column is DAYS:
        many = repeated(found, weights)
        got["c_index"] = concordance_index(many.truth, many.prediction, ~many.censored)
    return got


def _oracle_of_levels(column, found, w):
    y, p, n = found.truth, found.prediction, len(column.levels)
    kind = {"average": "binary"} if n == 2 else {"average": "macro", "labels": range(n)}
    if n == 2:
        auc = sk.roc_auc_score(y, found.probability[:, 1], sample_weight=w)
    else:
        auc = sk.roc_auc_score(y, found.probability, sample_weight=w, multi_class="ovr", average="macro")
    return {
        "accuracy": sk.accuracy_score(y, p, sample_weight=w),
        "balanced_accuracy": sk.balanced_accuracy_score(y, p, sample_weight=w),
        "auc": auc,
        "f1": sk.f1_score(y, p, sample_weight=w, **kind),
        "precision": sk.precision_score(y, p, sample_weight=w, **kind),
        "recall": sk.recall_score(y, p, sample_weight=w, **kind),
    }


def _oracle_of_order(y, p, w):
    return {
        "quadratic_kappa": sk.cohen_kappa_score(y, p, weights="quadratic", sample_weight=w),
        "class_mae": sk.mean_absolute_error(y, p, sample_weight=w),
    }


@pytest.mark.parametrize("column", COLUMNS, ids=lambda c: c.name)
@pytest.mark.parametrize("seed", range(3))
def test_oracles_agree(column, seed):
    found = drawn(column, 40, seed)
    if seed == 2 and not column.is_discrete:  # ties of predictions and times
        places = -2 if column is DAYS else 0
        found = replace(found, truth=found.truth.round(places), prediction=found.prediction.round(places))
    weights = np.random.default_rng(seed).integers(1, 5, 40)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = oracle(column, found, weights)
    got = weighted(column, found, weights)
    assert {name: got[name] for name in expected} == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_auc_with_ties_is_scikit_learns():
    positive = np.array([0.5, 0.5, 0.2, 0.5, 0.9, 0.2, 0.2])
    truth = np.array([1, 0, 1, 0, 1, 0, 0])
    found = Predictions(truth, (positive > 0.5).astype(int), np.stack([1 - positive, positive], 1))
    assert values(GRADE, found)["auc"] == pytest.approx(sk.roc_auc_score(truth, positive), abs=1e-12)


# --- laws


@settings(max_examples=40, deadline=None)
@given(
    column=st.sampled_from(COLUMNS),
    seed=st.integers(0, 10**6),
    weights=st.lists(st.integers(0, 3), min_size=7, max_size=7).filter(any),
)
def test_weights_are_repetitions(column, seed, weights):
    found = drawn(column, 7, seed)
    assert same(weighted(column, found, weights), values(column, repeated(found, weights)))


@settings(max_examples=20, deadline=None)
@given(column=st.sampled_from(COLUMNS), seed=st.integers(0, 10**6))
def test_the_order_of_the_cases_does_not_matter(column, seed):
    found = drawn(column, 9, seed)
    order = np.random.default_rng(seed).permutation(9)
    assert same(values(column, found), values(column, found.take(order)))


@settings(max_examples=20, deadline=None)
@given(column=st.sampled_from(COLUMNS), seed=st.integers(0, 10**6))
def test_values_stay_within_their_limits_and_the_truth_is_perfect(column, seed):
    found = drawn(column, 12, seed)
    for name, value in values(column, found).items():
        metric = metric_named(column, name)
        assert math.isnan(value) or metric.low <= value <= metric.high + 1e-12
    probability = np.eye(len(column.levels))[found.truth] if column.is_discrete else None
    said = found.truth + 0.5 * found.censored  # a censored one lives longer than who dies on the same day
    perfect = values(column, Predictions(found.truth, said, probability, censored=found.censored))
    assert perfect[PRIMARY[column.kind]] == (0 if column is SCORE else 1)


# --- undefined


@pytest.mark.parametrize(
    ("column", "undefined"),
    [
        (GRADE, {"balanced_accuracy", "auc"}),
        (SUBTYPE, {"balanced_accuracy", "auc", "f1", "precision", "recall"}),
        (STAGE, {"balanced_accuracy", "auc", "f1", "precision", "recall", "quadratic_kappa"}),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_one_level_in_a_fold_is_nan_with_a_note(column, undefined):
    n = len(column.levels)
    found = Predictions(np.full(4, n - 1), np.full(4, n - 1), np.tile(np.eye(n)[n - 1], (4, 1)))
    got = measured(column, found)
    assert {name for name, (value, _) in got.items() if math.isnan(value)} == undefined
    assert all((note.startswith("undefined: ")) == (name in undefined) for name, (_, note) in got.items())
    assert got["accuracy"].value == 1


def test_one_case_has_no_r2_and_censored_cases_no_error():
    assert math.isnan(values(SCORE, drawn(SCORE, 1))["r2"])
    many = Predictions(np.full(5, 1e8 + 1 / 3), np.arange(5.0))
    assert math.isnan(values(SCORE, many)["r2"])  # equal truths, whatever their size
    censored = Predictions(np.arange(1.0, 4), np.arange(1.0, 4), censored=np.ones(3, bool))
    got = measured(DAYS, censored)
    assert all(math.isnan(value) for value, _ in got.values())
    assert got["c_index"].note == "undefined: no two cases can be compared"


def test_a_level_that_is_never_said_leaves_the_macro_precision_undefined():
    found = Predictions(np.array([0, 1, 2]), np.array([0, 1, 1]))
    got = values(SUBTYPE, found)
    assert math.isnan(got["precision"])
    assert got["f1"] == pytest.approx((1 + 2 / 3 + 0) / 3)


def test_an_unknown_metric_is_refused():
    with pytest.raises(ValueError, match=r"grade .class. has no metric kappa; it has accuracy, balanced_accuracy, auc"):
        metric_named(GRADE, "kappa")
