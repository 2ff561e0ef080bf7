"""Honest statistics of few cases: folds, intervals, differences from baselines, claims."""

import math
import re

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from nnunet_ext.outcomes import baselines
from nnunet_ext.outcomes.bootstrapping import interval, mean_of_folds, weights_of
from nnunet_ext.outcomes.cases import Predictions
from nnunet_ext.outcomes.honest import (
    Drawn,
    Fold,
    differences,
    fold_table,
    level_for,
    primary_of,
    proves_nothing,
    span_of,
    summary_table,
)
from nnunet_ext.outcomes.metrics import measured, metric_named
from tests.outcomes.samples import COLUMNS, DAYS, GRADE, SCORE, STAGE, drawn


def folds_of(column, *, folds=4, n=12, seeds=1, skill=2.0, first=0):
    """Folds of a method ``net`` and a baseline that knows nothing, two cases a patient."""
    made = []
    for f in range(folds):
        cases = tuple(f"f{f}c{i}" for i in range(n))
        runs = tuple(_of_seed(column, n, first + 100 * f, s, skill) for s in range(seeds))
        training = baselines.Known(runs[0].truth, runs[0].censored)
        constant = next(iter(baselines.constants(column, training, runs[0]).values()))
        methods = {"net": runs, "constant": (constant,)}
        made.append(Fold(str(f), cases, tuple(f"f{f}p{i // 2}" for i in range(n)), methods))
    return made


def _of_seed(column, n, first, seed, skill):
    """The same truth with other predictions."""
    truth, other = drawn(column, n, first, skill), drawn(column, n, first + seed, skill)
    if column.is_discrete:
        logits = np.log(truth.probability) + 0.3 * seed * np.random.default_rng(first + seed).normal(
            size=truth.probability.shape
        )
        probability = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        return Predictions(truth.truth, probability.argmax(1), probability)
    return Predictions(
        truth.truth, truth.prediction + 0.1 * seed * other.truth.std(), None, truth.lower, truth.upper, truth.censored
    )


AUC = metric_named(GRADE, "auc")


# --- folds, never pooled


def test_the_pooled_leave_one_out_correlation_of_a_constant_is_minus_one():
    truth = np.random.default_rng(0).normal(size=25)
    means = np.array([np.delete(truth, i).mean() for i in range(25)])
    assert np.corrcoef(truth, means)[0, 1] == pytest.approx(-1)
    pooled = measured(SCORE, Predictions(truth, means))
    assert pooled["r2"].value == pytest.approx(1 - (25 / 24) ** 2)  # below 0 though it is but the mean
    one_by_one = [
        Fold(str(i), (str(i),), (str(i),), {"mean": (Predictions(truth[i : i + 1], means[i : i + 1]),)})
        for i in range(25)
    ]
    table = summary_table(Drawn(SCORE, one_by_one, draws=20)).set_index("metric")
    assert math.isnan(table.loc["r2", "value"])
    assert table.loc["r2", "note"] == "defined in 0 of 25 folds; no fold has a value"
    assert table.loc["mae", "value"] == pytest.approx(np.abs(truth - means).mean())
    assert table.loc["mae", "note"] == "no interval: a fold has a single patient"


def test_the_pooled_auc_of_constants_is_below_chance_and_that_of_folds_is_chance():
    truth = np.array([0, 0, 1, 1, 1, 1])
    halves = [np.array([0, 1, 2]), np.array([3, 4, 5])]
    parts = []
    for test in halves:
        training = baselines.Known(np.delete(truth, test), np.zeros(3, bool))
        parts.append(baselines.constants(GRADE, training, Predictions(truth[test], truth[test]))["majority level"])
    score = np.concatenate([part.probability for part in parts])
    assert measured(GRADE, Predictions(truth, score.argmax(1), score))["auc"].value < 0.5
    assert measured(GRADE, parts[0])["auc"].value == 0.5


def test_metrics_are_those_of_each_fold_then_averaged():
    folds = folds_of(STAGE, seeds=2)
    table = fold_table(STAGE, folds)
    kappa = table[(table["metric"] == "quadratic_kappa") & (table["method"] == "net")]
    assert len(kappa) == 4 * 2
    by_hand = np.mean([[measured(STAGE, run)["quadratic_kappa"].value for run in f.methods["net"]] for f in folds])
    summary = summary_table(Drawn(STAGE, folds, draws=50)).set_index(["method", "metric"])
    row = summary.loc["net", "quadratic_kappa"]
    assert kappa["value"].mean() == pytest.approx(by_hand) == row["value"]
    assert (row["cases"], row["patients"], row["folds"], row["all_folds"], row["seeds"]) == (48, 24, 4, 4, 2)


def test_a_fold_with_one_level_stays_in_the_table_and_is_told():
    folds = folds_of(GRADE)
    one = folds[2].methods["net"][0]
    single = Predictions(np.ones(12, int), one.prediction, one.probability)
    folds[2] = Fold("2", folds[2].cases, folds[2].patients, {name: (single,) for name in folds[2].methods})
    table = fold_table(GRADE, folds).query("metric == 'auc' and method == 'net'")
    assert table["value"].isna().tolist() == [False, False, True, False]
    assert table["note"].tolist()[2].startswith("undefined: a level has no case")
    row = summary_table(Drawn(GRADE, folds, draws=50)).set_index(["method", "metric"]).loc["net", "auc"]
    assert row["note"].startswith("defined in 3 of 4 folds")
    assert row["value"] == pytest.approx(table["value"].mean())


def test_a_patient_in_two_folds_is_refused():
    folds = folds_of(GRADE)
    folds[1] = Fold("1", folds[1].cases, (*folds[1].patients[:-1], "f0p0"), folds[1].methods)
    with pytest.raises(ValueError, match=r"f0c0 in fold 0 and f1c11 in fold 1 are of one patient, so each"):
        Drawn(GRADE, folds)


# --- intervals


def test_patients_are_drawn_with_all_their_cases():
    weights = weights_of(("a", "b", "a", "c", "b"), np.random.default_rng(0), 500)
    assert (weights[:, 0] == weights[:, 2]).all()
    assert (weights[:, 1] == weights[:, 4]).all()
    assert (weights[:, [0, 1, 3]].sum(1) == 3).all()
    assert weights.mean(0) == pytest.approx(np.ones(5), abs=0.1)


def test_the_interval_of_a_mean_is_the_t_interval():
    """One fold, one case a patient, mean absolute error: there the textbook knows the answer."""
    from scipy import stats

    error = np.abs(np.random.default_rng(3).normal(size=40))
    found = Predictions(np.zeros(40), error)
    fold = Fold("0", tuple(map(str, range(40))), tuple(map(str, range(40))), {"net": (found,)})
    got = Drawn(SCORE, [fold], draws=20000).interval("net", metric_named(SCORE, "mae"))
    low, high = stats.t.interval(0.95, 39, error.mean(), stats.sem(error))
    assert (got.low, got.high) == pytest.approx((low, high), abs=0.1 * (high - low))
    assert got.high - got.low == pytest.approx(high - low, rel=0.03)


def test_cases_of_one_patient_are_no_further_evidence():
    error = np.abs(np.random.default_rng(3).normal(size=20))
    metric = metric_named(SCORE, "mae")
    widths = []
    for copies in (1, 5):
        names = tuple(str(i) for i in range(20) for _ in range(copies))
        found = Predictions(np.zeros(20 * copies), np.repeat(error, copies))
        got = Drawn(SCORE, [Fold("0", names, names, {"net": (found,)})]).interval("net", metric)
        widths.append(got.high - got.low)
    assert widths[0] == pytest.approx(widths[1])


def test_seeds_widen_the_interval_by_their_own_spread():
    error = np.abs(np.random.default_rng(3).normal(size=20)) + 1
    names = tuple(map(str, range(20)))
    metric = metric_named(SCORE, "mae")
    widths = []
    for shift in (0.0, 0.8):
        runs = (Predictions(np.zeros(20), error - shift), Predictions(np.zeros(20), error + shift))
        got = Drawn(SCORE, [Fold("0", names, names, {"net": runs})]).interval("net", metric)
        assert got.value == pytest.approx(error.mean())
        widths.append(got.high - got.low)
    assert widths[1] > 1.5 * widths[0]


def test_undefined_draws_leave_no_interval():
    positive = np.array([0.1, 0.2, 0.6, 0.4])
    found = Predictions(np.array([0, 0, 0, 1]), np.zeros(4, int), np.stack([1 - positive, positive], 1))
    got = Drawn(GRADE, [Fold("0", tuple("abcd"), tuple("abcd"), {"net": (found,)})]).interval("net", AUC)
    assert got.value == pytest.approx(2 / 3)
    assert math.isnan(got.low)
    # without the only positive case, (3/4)^4, or with nothing else, (1/4)^4: 32 %
    assert re.fullmatch("no interval: undefined in 3[0-4]% of the draws", got.note)


def test_means_of_folds_leave_out_what_is_undefined_and_only_that():
    values = np.array([[1, np.nan, 0], [3, np.nan, np.nan]])
    assert mean_of_folds(values) == pytest.approx([2, np.nan, 0], nan_ok=True)


@pytest.mark.parametrize("column", COLUMNS, ids=lambda c: c.name)
def test_the_same_seed_gives_the_same_tables_and_intervals_hold_their_values(column):
    first, second = (summary_table(Drawn(column, folds_of(column, seeds=2), draws=300)) for _ in range(2))
    assert first.equals(second)
    known = first.dropna(subset=["low"])
    assert len(known)
    assert (known["low"] <= known["value"] + 1e-12).all()
    assert (known["value"] <= known["high"] + 1e-12).all()


# --- claims


@pytest.mark.parametrize("column", [GRADE, STAGE, SCORE, DAYS], ids=lambda c: c.name)
def test_skill_is_found_and_its_absence_is_not(column):
    for skill, better in ((4.0 if column.is_discrete else 1.0, True), (0.0, False)):
        folds = folds_of(column, n=24, skill=skill)
        if column in (SCORE, DAYS) and better:
            folds = [_with_error(fold, 0.2) for fold in folds]
        drawn_ = Drawn(column, folds)
        metric = primary_of(column, drawn_, ["net"])
        assert drawn_.difference("net", "constant", metric).better == better


def _with_error(fold, share):
    run = fold.methods["net"][0]
    close = run.truth + share * (run.prediction - run.truth)
    return Fold(
        fold.name,
        fold.cases,
        fold.patients,
        {**fold.methods, "net": (Predictions(run.truth, close, censored=run.censored),)},
    )


def test_a_gain_in_errors_counts_downwards():
    truth = np.arange(12.0)
    names = tuple(map(str, range(12)))
    methods = {"net": (Predictions(truth, truth + 1),), "mean": (Predictions(truth, truth + 3),)}
    found = Drawn(SCORE, [Fold("0", names, names, methods)]).difference("net", "mean", metric_named(SCORE, "mae"))
    assert found.gain.value == pytest.approx(2)
    assert found.better


def test_more_comparisons_widen_the_intervals():
    drawn_ = Drawn(SCORE, folds_of(SCORE))
    one, ten = (differences(drawn_, ["net"], ["constant"], level_for(m))[0] for m in (1, 10))
    assert one.gain.value == ten.gain.value
    assert ten.gain.high - ten.gain.low > 1.3 * (one.gain.high - one.gain.low)
    assert (one.level, ten.level) == (pytest.approx(0.95), pytest.approx(0.995))


def test_the_difference_is_paired():
    """Two methods with large, equal errors and a small constant gap: the gap is certain though neither error is."""
    truth = np.random.default_rng(0).normal(size=30)
    names = tuple(map(str, range(30)))
    error = np.random.default_rng(1).exponential(5, 30)
    methods = {"net": (Predictions(truth, truth + error),), "age": (Predictions(truth, truth + error + 0.1),)}
    drawn_ = Drawn(SCORE, [Fold("0", names, names, methods)])
    found = drawn_.difference("net", "age", metric_named(SCORE, "mae"))
    assert (found.gain.low, found.gain.high) == pytest.approx((0.1, 0.1))


def test_few_or_wide_proves_nothing():
    sure = Drawn(GRADE, folds_of(GRADE, n=60, skill=20)).interval("net", AUC)
    assert not proves_nothing(sure, 120, 1.0)
    assert proves_nothing(sure, 29, 1.0)
    wide = Drawn(GRADE, folds_of(GRADE, folds=2, n=16, skill=0)).interval("net", AUC)
    assert proves_nothing(wide, 200, 1.0)
    single = interval(np.zeros((1, 1)), np.zeros((1, 1, 5)), [1], np.random.default_rng(0))
    assert proves_nothing(single, 200, 1.0)


def test_the_span_of_an_error_is_what_the_best_baseline_errs():
    drawn_ = Drawn(SCORE, folds_of(SCORE))
    mae = metric_named(SCORE, "mae")
    assert span_of(drawn_, mae, ["constant"]) == drawn_.interval("constant", mae).value
    assert span_of(Drawn(GRADE, folds_of(GRADE)), metric_named(GRADE, "auc"), ["constant"]) == 1


def test_without_probabilities_the_claim_is_about_balanced_accuracy():
    folds = folds_of(GRADE)
    assert primary_of(GRADE, Drawn(GRADE, folds), ["net"]).name == "auc"
    run = folds[0].methods["net"][0]
    blind = {**folds[0].methods, "net": (Predictions(run.truth, run.prediction),)}
    folds[0] = Fold("0", folds[0].cases, folds[0].patients, blind)
    assert primary_of(GRADE, Drawn(GRADE, folds), ["net"]).name == "balanced_accuracy"


# --- baselines


def test_constants_by_hand():
    test = Predictions(np.array([0, 1]), np.array([0, 0]))
    found = baselines.constants(STAGE, baselines.Known(np.array([2, 1, 2, 1, 0]), np.zeros(5, bool)), test)
    assert found["majority level"].prediction.tolist() == [1, 1]  # of equal ones the first
    assert found["majority level"].probability.tolist() == [[0.2, 0.4, 0.4]] * 2
    numbers = baselines.Known(np.array([1.0, 2, 9, 50]), np.array([False, False, False, True]))
    found = baselines.constants(DAYS, numbers, Predictions(np.array([3.0]), np.array([3.0])))
    assert {name: p.prediction.tolist() for name, p in found.items()} == {"mean": [4], "median": [2]}


def test_covariates_alone_by_least_squares():
    generator = np.random.default_rng(0)
    age = generator.normal(size=(30, 1))
    truth = 2 * age[:, 0] + generator.normal(size=30)
    training = baselines.Known(truth[:20], np.zeros(20, bool))
    found = baselines.from_covariates(SCORE, training, age[:20], Predictions(truth[20:], truth[20:]), age[20:])
    slope, offset = np.polyfit(age[:20, 0], truth[:20], 1)
    assert found.prediction == pytest.approx(slope * age[20:, 0] + offset)
    assert np.isnan(found.lower).all()
    # features that depend on each other
    twice = np.hstack([age, age])
    same = baselines.from_covariates(SCORE, training, twice[:20], Predictions(truth[20:], truth[20:]), twice[20:])
    assert same.prediction == pytest.approx(found.prediction)
    assert LinearRegression().fit(age[:20], truth[:20]).predict(age[20:]) == pytest.approx(found.prediction)


def test_covariates_alone_by_logistic_regression():
    age = np.linspace(-2, 2, 40)[:, None]
    truth = (age[:, 0] > 0).astype(int) * 2  # the middle level never occurs
    training = baselines.Known(truth, np.zeros(40, bool))
    found = baselines.from_covariates(STAGE, training, age, Predictions(truth, truth), age)
    assert found.prediction.tolist() == truth.tolist()
    assert found.probability.sum(1) == pytest.approx(np.ones(40))
    assert (found.probability[:, 1] == 0).all()
    one = baselines.Known(np.ones(40, int), np.zeros(40, bool))
    assert set(baselines.from_covariates(STAGE, one, age, found, age).prediction) == {1}


def test_covariates_alone_by_an_accelerated_failure_time_model():
    generator = np.random.default_rng(0)
    age = generator.normal(size=(120, 1))
    time = np.exp(6 - 0.8 * age[:, 0]) * generator.weibull(3, 120)
    limit = generator.uniform(200, 3000, 120)
    training = baselines.Known(np.minimum(time, limit), time > limit)
    test = Predictions(time, time)
    found = baselines.from_covariates(DAYS, training, age, test, age)
    assert measured(DAYS, found)["c_index"].value > 0.8
    assert found.prediction == pytest.approx(np.exp(6 - 0.8 * age[:, 0]) * np.log(2) ** (1 / 3), rel=0.15)
    none = baselines.Known(time, np.ones(120, bool))
    assert set(baselines.from_covariates(DAYS, none, age, test, age).prediction) == {np.median(time)}


def test_a_fit_that_does_not_converge_is_told(monkeypatch):
    import lifelines
    from lifelines.exceptions import ConvergenceError

    def fit(*_):
        raise ConvergenceError("no")

    monkeypatch.setattr(lifelines.WeibullAFTFitter, "fit", fit)
    known = baselines.Known(np.ones(3), np.zeros(3, bool))
    with pytest.raises(ValueError, match=r"The covariates of days cannot be fitted to the 3 training cases of a fold"):
        baselines.from_covariates(DAYS, known, np.ones((3, 1)), Predictions(np.ones(1), np.ones(1)), np.ones((1, 1)))


def test_without_lifelines_the_covariates_of_a_survival_are_refused(monkeypatch):
    monkeypatch.setattr(baselines, "find_spec", lambda name: None)
    known = baselines.Known(np.ones(3), np.zeros(3, bool))
    with pytest.raises(ValueError, match=r"lifelines is not installed, which the covariates of days need; pip install"):
        baselines.from_covariates(DAYS, known, np.ones((3, 1)), Predictions(np.ones(1), np.ones(1)), np.ones((1, 1)))
