from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnunet_ext.evaluation import permutation
from nnunet_ext.evaluation.permutation import p_values
from nnunet_ext.evaluation.variance import mean_squares

FOLDS = [np.arange(0, 3), np.arange(3, 7)]


def slowly(y, folds):
    """Every exchange written out."""

    def statistic(values):
        return values.mean() ** 2 / mean_squares(values, folds).variance_of_mean()

    of_case = np.concatenate([np.full(len(cases), f) for f, cases in enumerate(folds)])
    observed, hits = statistic(y), []
    for signs in product((1, -1), repeat=len(y) * len(folds)):
        turned = y * np.reshape(signs, (len(y), len(folds)))[:, of_case]
        hits.append(statistic(turned) >= observed * (1 - 1e-9))
    return np.mean(hits)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n_seeds", [2, 3])
def test_the_slow_twin(seed, n_seeds):
    y = np.random.default_rng(seed).normal(0.5, 1, (n_seeds, 7))
    assert p_values(y, FOLDS) == pytest.approx(slowly(y, FOLDS))


def test_drawn_exchanges_are_close_to_all(monkeypatch):
    y = np.random.default_rng(5).normal(0.4, 1, (3, 7))
    exact = p_values(y, FOLDS)
    monkeypatch.setattr(permutation, "MOST_EXACT", 1)
    assert p_values(y, FOLDS) == pytest.approx(exact, abs=0.02)
    assert p_values(y, FOLDS) == p_values(y, FOLDS)


def test_exchangeable_trainings_give_uniform_p_values():
    """Whatever the trainings do to whole folds."""
    generator = np.random.default_rng(0)
    runs = generator.normal(0, 2, (2000, 3, 2))[..., [0, 0, 0, 1, 1, 1, 1]]
    p = p_values(runs + generator.normal(0, 1, (2000, 3, 7)), FOLDS)
    for level in (0.1, 0.25, 0.5):
        assert abs((p <= level).mean() - level) < 4 * np.sqrt(level * (1 - level) / 2000)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.1, 100))
def test_laws(seed, factor):
    y = np.random.default_rng(seed).normal(0.3, 1, (3, 7))
    p = p_values(y, FOLDS)
    assert 2 / 2**6 <= p <= 1
    assert p_values(-factor * y, FOLDS) == pytest.approx(p)
    assert p_values(y[[2, 0, 1]], FOLDS) == pytest.approx(p)


def test_no_difference_and_the_same_difference_everywhere():
    assert p_values(np.zeros((3, 7)), FOLDS) == 1
    assert p_values(np.full((3, 7), 0.1), FOLDS) == 2 / 2**6


def test_one_seed_is_refused():
    with pytest.raises(ValueError, match="two seeds"):
        p_values(np.ones((1, 7)), FOLDS)
