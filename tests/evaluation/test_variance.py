import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf

from nnunet_ext.evaluation.variance import components, mean_squares

FOLDS = [np.arange(0, 6), np.arange(6, 12), np.arange(12, 18)]


def drawn(generator, *, run=1.0, case=2.0, rest=0.5, seeds=3, folds=FOLDS):
    of_case = np.concatenate([np.full(len(cases), f) for f, cases in enumerate(folds)])
    runs = generator.normal(0, run, (seeds, len(folds)))[:, of_case]
    return runs + generator.normal(0, case, of_case.size) + generator.normal(0, rest, (seeds, of_case.size))


def test_by_hand():
    """Two seeds, one fold of two cases: 1 and 3, 5 and 11; means 2 and 8 of seeds, 3 and 7 of cases, 5 of all."""
    squares = mean_squares(np.array([[1.0, 3.0], [5.0, 11.0]]), [np.arange(2)])
    assert squares.run == 2 * (9 + 9)
    assert squares.case == 2 * (4 + 4)
    # what row and column means leave: 1, -1, -1, 1
    assert squares.rest == 4
    assert (squares.df_run, squares.df_case, squares.df_rest) == (1, 1, 1)
    assert squares.variance_of_mean() == (32 + 12 + 4) / 4
    # each part with its factor 1, 1, -1 and one degree of freedom
    assert squares.degrees_of_freedom() == pytest.approx(48**2 / (36**2 + 16**2 + 4**2))
    found = components(np.array([[1.0, 3.0], [5.0, 11.0]]), [np.arange(2)])
    assert (found.seed, found.case, found.rest, found.fold) == (4, pytest.approx(np.sqrt(6)), 2, None)


def test_a_likelihood_method_agrees_away_from_the_boundary():
    y = drawn(np.random.default_rng(3), run=2.0, case=3.0, rest=1.0)
    table = pd.DataFrame([(f, s, c, y[s, c]) for f, cases in enumerate(FOLDS) for s in range(3) for c in cases])
    table.columns = ["fold", "seed", "case", "y"]
    parts = {"run": "0 + C(seed)", "case": "0 + C(case)"}
    # the folds' own means are fixed here, as they are within our mean squares
    model = smf.mixedlm("y ~ C(fold)", table, groups="fold", re_formula="0", vc_formula=parts)
    fit = model.fit(reml=True)
    theirs = dict(zip(model.exog_vc.names, fit.vcomp, strict=True))
    ours = components(y, FOLDS)
    assert ours.seed**2 == pytest.approx(theirs["run"], rel=1e-3)
    assert ours.case**2 == pytest.approx(theirs["case"], rel=1e-3)
    assert ours.rest**2 == pytest.approx(fit.scale, rel=1e-3)


@pytest.mark.parametrize("truth", [(1.0, 2.0, 0.5), (2.0, 0.5, 0.5), (0.5, 2.0, 1.0)])
def test_the_variance_of_the_mean_is_right_on_average(truth):
    run, case, rest = truth
    generator = np.random.default_rng(0)
    many = np.stack([drawn(generator, run=run, case=case, rest=rest) for _ in range(3000)])
    expected = run**2 / 9 + case**2 / 18 + rest**2 / 54
    assert mean_squares(many, FOLDS).variance_of_mean().mean() == pytest.approx(expected, rel=0.05)


def test_components_below_zero_make_no_mean_too_sure():
    generator = np.random.default_rng(0)
    many = np.stack([drawn(generator, run=0.0, case=0.0, rest=3.0) for _ in range(1000)])
    assert 1 < mean_squares(many, FOLDS).variance_of_mean().mean() / (9 / 54) < 2


def test_folds_of_uneven_size():
    folds = [np.arange(0, 2), np.arange(2, 14), np.arange(14, 18)]
    generator = np.random.default_rng(1)
    many = np.stack([drawn(generator, run=2.0, case=0.1, rest=0.1, folds=folds) for _ in range(4000)])
    squares = mean_squares(many, folds)
    assert squares.variance_of_mean().mean() == pytest.approx(many.mean((1, 2)).var(), rel=0.2)


def test_what_one_seed_cannot_tell_is_none():
    found = components(np.array([[1.0, 3.0, 5.0, 9.0]]), [np.arange(2), np.arange(2, 4)])
    assert (found.seed, found.fold, found.rest) == (None, None, None)
    assert found.case == pytest.approx(np.sqrt((2 + 8) / 2))


def test_the_spread_between_folds():
    generator = np.random.default_rng(2)
    y = drawn(generator, run=0.1, case=0.1, rest=0.1)
    shift = np.repeat([-5.0, 0.0, 5.0], 6)
    assert components(y + shift, FOLDS).fold == pytest.approx(5, rel=0.1)
    assert components(y, FOLDS).fold < 0.2


def test_too_little_is_refused():
    with pytest.raises(ValueError, match="two seeds"):
        mean_squares(np.ones((1, 4)), [np.arange(4)])
    with pytest.raises(ValueError, match="two cases"):
        mean_squares(np.ones((2, 2)), [np.array([0]), np.array([1])])
