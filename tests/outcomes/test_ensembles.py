"""An ensemble is blind to the cases it is reported on, and the baselines of survival to those of their fold."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from nnunet_ext.outcomes import ensembles, gathering
from nnunet_ext.outcomes.cases import Predictions
from nnunet_ext.outcomes.ensembles import Recipe
from nnunet_ext.outcomes.honest import Fold
from nnunet_ext.outcomes.targets import load_targets
from tests.outcomes.samples import DAYS, SCORE, drawn
from tests.outcomes.workspace import rows_of, splits_of, table_of, write_targets

METHODS = ("good", "fair", "bad")


def folds_of(column=SCORE, seeds=2):
    made = []
    for f in range(3):
        first = drawn(column, 10, f)
        runs = {}
        for place, method in enumerate(METHODS):
            noise = [np.random.default_rng([f, place, s]).normal(0, 0.1 + 0.2 * place, 10) for s in range(seeds)]
            runs[method] = tuple(replace(first, prediction=first.truth + n) for n in noise)
        cases = tuple(f"{f}{i}" for i in range(10))
        made.append(Fold(str(f), cases, cases, runs))
    return made


def changed(fold):
    """The best and the worst change places in a fold."""
    good, bad = fold.methods["good"], fold.methods["bad"]
    return replace(fold, methods={**fold.methods, "good": bad, "bad": good})


def useless(fold):
    runs = {name: tuple(replace(run, prediction=run.truth + 9) for run in fold.methods[name]) for name in METHODS}
    return replace(fold, methods=runs)


@pytest.mark.parametrize("how", ["grid", "inverse-error"])
def test_the_weights_of_a_fold_are_blind_to_it(how):
    recipe = Recipe(3, how)
    folds = folds_of()
    _, first = ensembles.out_of_fold(SCORE, folds, METHODS, recipe)
    _, second = ensembles.out_of_fold(SCORE, [changed(folds[0]), *folds[1:]], METHODS, recipe)
    assert first[0] == second[0]
    assert first[1] != second[1]


def test_an_ensemble_has_the_seeds_of_its_members_and_their_weighted_mean():
    folds = folds_of()
    made, weights = ensembles.out_of_fold(SCORE, folds, METHODS, Recipe(2, "inverse-error"))
    name = "ensemble of the best 2 (inverse-error)"
    for fold, found in zip(made, weights, strict=True):
        assert list(found.weights) == ["good", "fair"]
        assert found.fold == fold.name
        for seed, run in enumerate(fold.methods[name]):
            slow = sum(w * fold.methods[m][seed].prediction for m, w in found.weights.items())
            assert run.prediction == pytest.approx(slow)


def test_means_are_over_seeds_and_folds():
    folds = folds_of()
    by_hand = np.mean([[np.abs(r.prediction - r.truth).mean() for r in f.methods["fair"]] for f in folds])
    assert ensembles.means(SCORE, folds, ["fair"])["fair"]["mae"] == pytest.approx(by_hand)


def test_where_no_method_passes_the_rule_there_is_no_ensemble():
    folds = [useless(fold) for fold in folds_of()]
    with pytest.raises(ValueError, match=r"No method of score may enter the ensemble of fold 0 .good: r2 is "):
        ensembles.out_of_fold(SCORE, folds, ["good", "fair"], Recipe(2, "grid"))


# --- baselines


@pytest.fixture(scope="module")
def surroundings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("targets")
    write_targets(folder, table_of(60))
    return gathering.Surroundings(load_targets(folder), ("age",))


def test_the_survival_baseline_is_fitted_inside_the_fold(surroundings):
    """The slow twin: lifelines on the other folds' cases, age standardised by them."""
    from lifelines import WeibullAFTFitter

    table = table_of(60)
    folds = [_fold(table, split["val"], str(f)) for f, split in enumerate(splits_of(table))]
    made, names = gathering.with_baselines(DAYS, folds, surroundings)
    assert names == ["mean", "median", "age"]
    table = table.set_index("case")
    inside, outside = table.loc[splits_of(table_of(60))[2]["train"]], table.loc[list(folds[2].cases)]
    scaled = [(part["age"] - inside["age"].mean()) / inside["age"].std(ddof=0) for part in (inside, outside)]
    frame = pd.DataFrame({"age": scaled[0], "time": inside["days"], "event": 1 - inside["censored"]})
    model = WeibullAFTFitter(penalizer=0.01).fit(frame, "time", "event")
    expected = model.predict_median(pd.DataFrame({"age": scaled[1]}))
    assert made[2].methods["age"][0].prediction == pytest.approx(np.asarray(expected), rel=1e-6)
    seen = inside[inside["censored"] == 0]["days"]
    assert set(made[2].methods["median"][0].prediction) == {seen.median()}


def _fold(table, cases, name):
    rows = rows_of(table, sorted(cases), name, 1, 2, ("days",)).set_index("case")
    numbers = {n: rows[n].to_numpy(float) for n in ("truth", "prediction", "lower", "upper")}
    found = Predictions(**numbers, censored=rows["censored"].to_numpy() == 1)
    return Fold(name, tuple(sorted(cases)), tuple(rows["patient"]), {"net": (found,)})


def test_the_splits_say_who_was_trained_on(surroundings):
    """A fold alone: its training cases and their truths come from the targets."""
    table = table_of(60)
    split = splits_of(table)[1]
    fold = _fold(table, split["val"], "1")
    around = replace(surroundings, covariates=(), training={"1": tuple(split["train"])})
    (made,), _ = gathering.with_baselines(DAYS, [fold], around)
    known = table[table["case"].isin(split["train"]) & (table["censored"] == 0)]["days"]
    assert made.methods["mean"][0].prediction == pytest.approx(np.full(len(split["val"]), known.mean()))
