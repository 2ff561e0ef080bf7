import gc
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from nnunet_ext.evaluation.claims import compare, compare_all, false_claim_of_published, probability_of_false_claim
from nnunet_ext.evaluation.intervals import mean_interval
from nnunet_ext.evaluation.ranking import case_ranks, rank
from nnunet_ext.evaluation.scores import Scores
from nnunet_ext.evaluation.simulation import Scenario, draw

SMALL = Scenario("small", methods=3, cases=12)


@pytest.fixture(scope="module")
def same():
    return draw(SMALL, np.random.default_rng(0))


@pytest.fixture(scope="module")
def better():
    return draw(replace(SMALL, better=1.0), np.random.default_rng(0))


def test_a_better_method_is_found_and_named(better):
    verdicts = {(c.first, c.second): c.verdict for c in compare(better)}
    assert verdicts["method 0", "method 1"] == verdicts["method 0", "method 2"] == "better"
    assert verdicts["method 1", "method 2"] == "no difference shown"


def test_a_distance_is_better_when_it_is_smaller(better):
    turned = Scores(better.values, better.folds, better.methods, higher_is_better=False)
    assert {c.verdict for c in compare(turned) if c.first == "method 0"} == {"worse"}


def test_the_reference_is_compared_with_every_other(same):
    assert [(c.first, c.second) for c in compare(same, "method 1")] == [
        ("method 0", "method 1"),
        ("method 2", "method 1"),
    ]
    with pytest.raises(ValueError, match="not among the methods"):
        compare(same, "method 9")


def test_the_columns_agree(better):
    for c in compare(better):
        assert c.low < c.difference < c.high
        assert c.p <= c.p_holm
        assert c.detectable > (c.high - c.low) / 2
        assert (c.verdict == "no difference shown") == (c.p_holm >= 0.05)


def test_all_that_is_compared_is_corrected_together(better):
    alone = [c.p_holm for c in compare(better)]
    parts = {"Dice": better, "again": better}
    together = [c.p_holm for key, c in compare_all(parts) if key == "Dice"]
    assert all(t >= min(1, 1.3 * a) for a, t in zip(alone, together, strict=True))
    assert [key for key, _ in compare_all(parts)] == ["Dice"] * 3 + ["again"] * 3


def test_one_seed_gives_no_verdict(better):
    one = Scores(better.values[:, :1], better.folds, better.methods)
    for c in compare(one):
        assert c.verdict == "no verdict: one seed"
        assert c.p is c.p_holm is c.low is c.detectable is None
        assert 0 <= c.false_claim <= 1


@pytest.fixture
def cheap_collection():
    """statsmodels' multipletests collects garbage in each call, of everything that was ever imported."""
    gc.freeze()
    yield
    gc.unfreeze()


def test_same_methods_are_rarely_told_apart(cheap_collection):
    claims = 0
    for seed in range(60):
        scores = draw(replace(SMALL, run=0.3, folds=3), np.random.default_rng(seed))
        claims += any(c.verdict != "no difference shown" for c in compare(scores))
    assert claims <= 7  # 5 % of 60; more than 7 happen once in 100 runs of an honest test


def test_the_probability_of_a_false_claim_is_the_one_sided_paired_test():
    first, second = np.random.default_rng(1).normal(0.1, 1, (2, 40))
    expected = stats.ttest_rel(first, second, alternative="greater").pvalue
    assert probability_of_false_claim(first - second) == pytest.approx(expected)
    correlation = np.corrcoef(first, second)[0, 1]
    published = false_claim_of_published(
        first.mean() - second.mean(), first.std(ddof=1), second.std(ddof=1), correlation, 40
    )
    assert published == pytest.approx(expected)
    with pytest.raises(ValueError, match="spread"):
        false_claim_of_published(1, 1, 1, 1, 40)


def test_the_interval_covers_about_as_often_as_it_says():
    scenario = Scenario("wide", methods=1, run=0.5, case=0.5, cases=15)
    truth = draw(replace(scenario, seeds=1, folds=2000), np.random.default_rng(9)).values.mean()
    hits = 0
    for seed in range(200):
        scores = draw(scenario, np.random.default_rng(seed))
        interval = mean_interval(scores.values[0], scores.cases_of_folds, seed)
        hits += interval.low < truth < interval.high
    assert 182 <= hits <= 200


def test_an_interval_that_forgets_the_trainings_would_be_too_narrow():
    scenario = Scenario("trainings differ", methods=1, run=1.0, case=0.1, rest=0.1)
    scores = draw(scenario, np.random.default_rng(0))
    with_runs = mean_interval(scores.values[0], scores.cases_of_folds)
    of_cases = stats.sem(scores.values[0].mean(0)) * 1.96
    assert with_runs.high - with_runs.low > 2 * of_cases


def test_the_ranks_by_hand():
    values = np.array([[[0.9, 0.5]], [[0.8, 0.7]], [[0.9, 0.1]]])
    scores = Scores(values, np.zeros(2, int), ("a", "b", "c"))
    assert case_ranks(scores).tolist() == [[1.5, 2], [3, 1], [1.5, 3]]
    distance = Scores(values, np.zeros(2, int), ("a", "b", "c"), higher_is_better=False)
    assert case_ranks(distance).tolist() == [[2.5, 2], [1, 3], [2.5, 1]]
    ranking = rank({"Dice": scores, "HD95": distance})
    assert ranking.mean_ranks.tolist() == [2, 2, 2]
    assert ranking.first().sum() == pytest.approx(1)


def test_a_clear_winner_is_first_in_every_sample(better):
    ranking = rank({"Dice": better})
    assert ranking.mean_ranks.argmin() == 0
    assert ranking.first()[0] > 0.99
    assert ranking.interval()[0].tolist() == [1, 1]
    with pytest.raises(ValueError, match="same methods"):
        rank({"Dice": better, "other": Scores(better.values[:2], better.folds, better.methods[:2])})


@pytest.mark.parametrize(
    ("values", "folds", "message"),
    [
        (np.ones((2, 3)), np.zeros(3, int), "shape"),
        (np.ones((2, 1, 3)), np.zeros(2, int), "one fold per case"),
        (np.full((2, 1, 3), np.nan), np.zeros(3, int), "NaN"),
    ],
)
def test_scores_that_are_none(values, folds, message):
    with pytest.raises(ValueError, match=message):
        Scores(values, folds, ("a", "b"))
