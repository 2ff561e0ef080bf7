"""Pairs of the best of two groups, and the choice between methods: both blind to the cases they are reported on."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from nnunet_ext.cli import main
from nnunet_ext.outcomes import charts, combining, ensembles, pairs
from nnunet_ext.outcomes.ensembles import Choice, NobodyError
from nnunet_ext.outcomes.honest import Fold
from nnunet_ext.outcomes.nested import Split, nested
from nnunet_ext.outcomes.pairs import Pairs, groups_of
from tests.outcomes.samples import GRADE, SCORE, drawn
from tests.outcomes.test_command import external, model_of, original, outcomes, table_in, workspace  # noqa: F401
from tests.outcomes.workspace import DATASET, splits_of, table_of, write_training

LEFT, RIGHT = ("left0", "left1", "left2"), ("right0", "right1", "right2")
NOISE = {"left0": 0.3, "left1": 0.5, "left2": 1.4, "right0": 0.4, "right1": 0.6, "right2": 1.3}
HOW = "grid"


def folds_of(count=4, cases=12, noise=NOISE, seeds=1):
    """Numbers, of which each method has errors of its own, and group 1's opposed to group 0's."""
    made = []
    for f in range(count):
        first = drawn(SCORE, cases, f)
        runs = {}
        for place, (name, spread) in enumerate(noise.items()):
            errors = [np.random.default_rng([f, place, s]).normal(0, spread, cases) for s in range(seeds)]
            runs[name] = tuple(replace(first, prediction=first.truth + error) for error in errors)
        names = tuple(f"{f}-{i}" for i in range(cases))
        made.append(Fold(str(f), names, names, runs))
    return made


def slow_values(folds, pair):
    """The twin: for each fold the grid's best weights on the others, by trying all; the mean of the metrics."""
    values = []
    for fold in folds:
        others = [other for other in folds if other is not fold]
        tried = []
        for share in np.arange(11) / 10:
            errors = [
                np.abs(share * o.methods[pair[0]][0].prediction + (1 - share) * o.methods[pair[1]][0].prediction - t)
                for o in others
                for t in [o.methods[pair[0]][0].truth]
            ]
            tried.append((round(float(np.concatenate(errors).mean()), 12), share**2 + (1 - share) ** 2, share))
        share = min(tried)[2]
        mixed = share * fold.methods[pair[0]][0].prediction + (1 - share) * fold.methods[pair[1]][0].prediction
        values.append(np.abs(mixed - fold.methods[pair[0]][0].truth).mean())
    return float(np.mean(values))


def test_every_pair_of_the_best_of_both_is_weighted_on_other_folds_than_it_is_measured_on():
    folds = folds_of()
    found = pairs.judged(Pairs((LEFT, RIGHT), 2, HOW), SCORE, folds)
    assert set(found.pairs.values()) == {(a, b) for a in ("left0", "left1") for b in ("right0", "right1")}
    for label, pair in found.pairs.items():
        assert found.values[label]["mae"] == pytest.approx(slow_values(folds, pair))
    best = min(found.pairs, key=lambda label: found.values[label]["mae"])
    assert found.order.names[0] == best
    assert found.chosen() == found.pairs[best]


def test_pair_and_weights_of_a_fold_are_blind_to_it():
    folds, recipe = folds_of(), Pairs((LEFT, RIGHT), 3, HOW)
    _, first = ensembles.out_of_fold(SCORE, folds, list(NOISE), recipe)
    swapped = {**folds[0].methods, "left0": folds[0].methods["left2"], "left2": folds[0].methods["left0"]}
    _, second = ensembles.out_of_fold(SCORE, [replace(folds[0], methods=swapped), *folds[1:]], list(NOISE), recipe)
    assert first[0] == second[0]
    assert first[1:] != second[1:]


def test_a_pair_is_the_weighted_mean_of_its_two():
    made, weights = ensembles.out_of_fold(
        SCORE, folds_of(seeds=2), list(NOISE), Pairs((LEFT, RIGHT), 2, "inverse-error")
    )
    for fold, found in zip(made, weights, strict=True):
        assert len(found.weights) == 2
        for seed, run in enumerate(fold.methods["best pair of 2 x 2 (inverse-error)"]):
            slow = sum(w * fold.methods[m][seed].prediction for m, w in found.weights.items())
            assert run.prediction == pytest.approx(slow)


def test_the_table_has_all_pairs_with_their_weights_by_all_folds():
    folds, recipe = folds_of(), Pairs((LEFT, RIGHT), 2, HOW)
    table = pairs.table(recipe, SCORE, folds)
    assert table["rank"].tolist() == [1, 2, 3, 4]
    assert table["mae"].is_monotonic_increasing
    assert table[["weight_first", "weight_second"]].sum(axis=1).tolist() == pytest.approx([1] * 4)
    row = table.iloc[0]
    joined = [ensembles._joined([fold.methods[row[place]][0] for fold in folds]) for place in ("first", "second")]
    assert row["weight_first"] == pytest.approx(combining.grid_search(SCORE, joined)[0])


def test_a_method_of_both_groups_is_not_paired_with_itself_and_a_pair_comes_once():
    both = ("left0", "right0")
    assert len(pairs.judged(Pairs((both, both), 2, HOW), SCORE, folds_of()).pairs) == 1
    with pytest.raises(NobodyError, match="Both groups of --combine have left0 alone"):
        pairs.judged(Pairs((both, both), 1, HOW), SCORE, folds_of())


def test_groups_are_patterns_of_names():
    methods = ["CaseResNet18", "CaseResNet18 Dataset602_B", "CaseUNETR_XS"]
    assert groups_of(["nnUNetTrainer_CaseRes*", "*_XS"], methods) == (tuple(methods[:2]), ("CaseUNETR_XS",))
    assert groups_of(["*Dataset602*", "*"], methods) == (("CaseResNet18 Dataset602_B",), tuple(methods))
    with pytest.raises(ValueError, match=r"--combine CaseX\* means none of the methods CaseResNet18, "):
        groups_of(["CaseX*", "*"], methods)


# --- a choice is nested cross-validation


def test_a_choice_is_that_of_nested_cross_validation():
    """The twin: :func:`.nested.nested` with candidates that read the predictions of trained networks."""
    noise = {"a": 0.5, "b": 0.52, "c": 0.55}
    folds = folds_of(5, 6, noise)
    cases = np.arange(30).reshape(5, 6)
    splits = [Split(np.delete(cases, f, 0).ravel(), cases[f]) for f in range(5)]

    def reads(name):
        return lambda split: folds[split.test[0] // 6].methods[name][0]

    def inner(training):
        parts = training.reshape(-1, 6)
        return [Split(np.delete(parts, i, 0).ravel(), parts[i]) for i in range(len(parts))]

    expected = nested(SCORE, {name: reads(name) for name in noise}, splits, inner, [str(i) for i in range(30)])
    made, weights = ensembles.out_of_fold(SCORE, folds, list(noise), Choice())
    assert tuple(next(iter(found.weights)) for found in weights) == expected.chosen
    assert len(set(expected.chosen)) > 1, "one is always chosen: this proves nothing"
    values = ensembles.means(SCORE, made, [Choice().name])[Choice().name]
    assert values == pytest.approx(dict(expected.values), nan_ok=True)
    best = ensembles.means(SCORE, folds, list(noise))[ensembles.ranking(SCORE, folds, list(noise)).names[0]]
    assert best == pytest.approx(dict(expected.optimistic), nan_ok=True)


def test_a_choice_needs_no_probabilities():
    first = drawn(GRADE, 10, 0, 3)
    blind = replace(first, probability=None)
    fold = Fold("0", tuple("abcdefghij"), tuple("abcdefghij"), {"m": (blind,)})
    made = ensembles.applied(GRADE, fold, ensembles.Weights("0", {"m": 1.0}, {}), "chosen")
    assert made.methods["chosen"] == (blind,)


# --- the command


def test_pairs_and_choices_are_told_written_and_tested(workspace, capsys):  # noqa: F811 - the fixture
    """In the external test it is `Noise` that knows, which chooses nothing."""
    words = external(workspace, skills=(("Good", 0), ("Weak", 0), ("Noise", 6)))
    options = ["--combine", "CaseGood", "Case[WN]*", "--best", 2, "--nested", "--covariates", "none", *words]
    assert outcomes(workspace, *options) == 0
    said, page = capsys.readouterr().out, (workspace / "out" / "outcomes.html").read_text()
    table = table_in(workspace / "out", "combinations").query("column == 'grade'")
    assert table[["first", "second"]].to_numpy().tolist()[0] == ["CaseGood", "CaseWeak"]
    assert table["auc"].is_monotonic_decreasing
    weights = table_in(workspace / "out", "weights").query("fold == 'test' and column == 'grade'")
    pair = weights[weights["ensemble"] == "best pair of 2 x 2 (grid)"].set_index("method")["weight"].to_dict()
    assert pair == pytest.approx(
        {"CaseGood": table.iloc[0]["weight_first"], "CaseWeak": table.iloc[0]["weight_second"]}
    )
    assert weights[weights["ensemble"] == "chosen on other folds"]["method"].tolist() == ["CaseGood"]
    nested_table = table_in(workspace / "out", "nested").query("column == 'grade'")
    assert nested_table["chosen"].tolist() == ["CaseGood"] * 4
    for text in (said, page):
        assert "Chosen: CaseGood for fold 0, 1, 2, 3." in text
        assert (
            "The best of the 3 by the folds on which it is told, CaseGood, has auc 1; chosen on the other folds" in text
        )
        assert "grade, best pair of 2 x 2 (grid): auc " in text
    assert "in the external test" in said[said.index("grade, chosen on other folds", said.index("external test")) :]
    assert "<h3>Pairs, by their values on other folds than those of their weights</h3>" in page
    assert "<h3>Chosen on the other folds</h3>" in page


def test_what_no_method_can_be_chosen_for_is_told_and_the_rest_is_judged(workspace, capsys):  # noqa: F811
    results = f"results/{DATASET}/{model_of(workspace, 'Noise').name}"
    assert outcomes(workspace, "--nested", "--ensemble", "grid", "--covariates", "none", results=results) == 0
    said = capsys.readouterr().out
    assert "There is no 'chosen on other folds': No method of " in said
    assert "CaseNoise: " in said
    assert "'ensemble of the best 5 (grid)'" in said


def test_a_column_that_the_external_test_does_not_know_is_told(workspace, capsys):  # noqa: F811
    words = external(workspace)
    for name in ("Good", "Weak", "Noise"):
        path = workspace / "new" / name / "case_metrics.csv"
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        table.loc[table["column"] == "score", "truth"] = ""
        table.to_csv(path, index=False)
    assert outcomes(workspace, *words, "--covariates", "none") == 0
    assert "No case of the external test has a known score." in capsys.readouterr().out
    tested = table_in(workspace / "out", "summary").query("tested == 'test'")
    assert set(tested["column"]) == {"grade"}
    for name in ("Good", "Weak", "Noise"):
        path = workspace / "new" / name / "case_metrics.csv"
        pd.read_csv(path, dtype=str, keep_default_na=False).assign(truth="").to_csv(path, index=False)
    assert outcomes(workspace, *words) == 2
    assert "has a known target; predict them with --targets." in capsys.readouterr().err


def test_the_best_of_two_inputs_are_paired_across_their_datasets(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(charts, "DPI", 20)
    for name in ("nnUNet_preprocessed", "nnUNet_raw"):
        monkeypatch.delenv(name, raising=False)
    table, other = table_of(40), "Dataset502_Lateral"
    for dataset, skills in ((DATASET, (3, 1)), (other, (2, 1))):
        for name, skill in zip(("A", "B"), skills, strict=True):
            trainer = f"nnUNetTrainer_Case{name}"
            write_training(tmp_path / dataset, trainer, table, splits_of(table), skill=skill, names=("score",))
    (tmp_path / other / DATASET).rename(tmp_path / other / other)
    folders = [str(tmp_path / DATASET), str(tmp_path / other)]
    words = ["outcomes", *folders, "-o", str(tmp_path / "out")]
    assert main([*words, "--combine", f"* {DATASET}", f"* {other}", "--best", "1"]) == 0
    found = table_in(tmp_path / "out", "combinations")
    assert found[["first", "second"]].to_numpy().tolist() == [[f"CaseA {DATASET}", f"CaseA {other}"]]
    capsys.readouterr()
    assert main(words) == 2
    assert "The trainings are of several datasets" in capsys.readouterr().err
