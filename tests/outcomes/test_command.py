"""`nnunet_ext outcomes` on results folders as validation leaves them."""

import io
import json
import re
import shutil
from contextlib import redirect_stdout

import numpy as np
import pandas as pd
import pytest

from nnunet_ext.cli import main
from nnunet_ext.evaluation.runs import find_runs
from nnunet_ext.outcomes import charts
from nnunet_ext.outcomes.results import read, write
from tests.outcomes.workspace import COLUMNS, DATASET, rows_of, splits_of, table_of, write_targets, write_training

NAMES = ("grade", "score")
FILES = {"summary", "folds", "gains", "cases", "ranking", "weights"}


@pytest.fixture(scope="session")
def original(tmp_path_factory):
    """Three methods of two seeds on four folds of 80 cases; `Good` knows the grade, `Noise` nothing."""
    root = tmp_path_factory.mktemp("outcomes")
    table = table_of(80)
    folds = splits_of(table)
    preprocessed = root / "preprocessed" / DATASET
    write_targets(preprocessed, table)
    (preprocessed / "splits_final.json").write_text(json.dumps(folds))
    for name, skill in (("Good", 6), ("Weak", 1), ("Noise", 0)):
        for seed in (1, 2):
            trainer = f"nnUNetTrainer_Case{name}_seed{seed}"
            write_training(root / "results", trainer, table, folds, skill=skill, seed=seed, names=NAMES)
    return root


@pytest.fixture
def workspace(original, tmp_path, monkeypatch):
    """A copy of it, with the variables set; pictures are small."""
    monkeypatch.setattr(charts, "DPI", 20)
    shutil.copytree(original, tmp_path / "w")
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "w" / "preprocessed"))
    monkeypatch.delenv("nnUNet_raw", raising=False)
    return tmp_path / "w"


def outcomes(workspace, *words, results="results"):
    return main(["outcomes", str(workspace / results), "-o", str(workspace / "out"), *map(str, words)])


def model_of(workspace, name="Good", seed=1):
    return workspace / "results" / DATASET / f"nnUNetTrainer_Case{name}_seed{seed}__nnUNetPlans__3d_roi"


@pytest.fixture(scope="session")
def done(original, tmp_path_factory):
    """What the command writes, with an ensemble, and what it says."""
    out, said = tmp_path_factory.mktemp("out"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said):
        patch.setattr(charts, "DPI", 40)
        patch.setenv("nnUNet_preprocessed", str(original / "preprocessed"))
        patch.delenv("nnUNet_raw", raising=False)
        assert main(["outcomes", str(original / "results"), "-o", str(out), "--ensemble", "inverse-error"]) == 0
    (out / "said.txt").write_text(said.getvalue())
    return out


def table_in(out, name):
    return pd.read_csv(out / f"outcomes_{name}.csv", keep_default_na=True)


def test_every_method_has_every_baseline_beside_it(done):
    gains = table_in(done, "gains")
    assert set(gains[gains["column"] == "grade"]["baseline"]) == {"majority level", "age", "sex", "age + sex"}
    assert set(gains[gains["column"] == "score"]["baseline"]) == {"mean", "median", "age", "sex", "age + sex"}
    assert len(gains.groupby(["column", "method", "baseline"])) == 4 * 4 + 4 * 5
    assert set(gains["level"]) == {1 - 0.05 / (2 * 4)}  # two columns, four methods
    better = gains[(gains["metric"] == "auc") & (gains["method"] == "CaseGood")]["better"]
    assert better.all()
    assert not gains[gains["method"] == "CaseNoise"].query("metric in ('auc', 'mae')")["better"].any()


def test_the_tables_agree_with_each_other(done):
    folds, summary, cases = (table_in(done, name) for name in ("folds", "summary", "cases"))
    means = folds.groupby(["column", "method", "metric"])["value"].mean()
    told = summary.set_index(["column", "method", "metric"])["value"]
    assert means.to_dict() == pytest.approx(told.to_dict(), nan_ok=True)
    grade = cases[cases["column"] == "grade"]
    shares = (grade["truth"] == grade["prediction"]).groupby([grade["method"], grade["fold"]]).mean()
    accuracy = told.xs("accuracy", level="metric")["grade"].to_dict()
    assert shares.groupby("method").mean().to_dict() == pytest.approx(accuracy)
    assert set(summary["cases"]) == {80}
    assert set(summary["patients"]) == {40}


def test_the_covariates_are_fitted_inside_the_fold(done, original):
    """The slow twin: least squares on each fold's training cases."""
    table = table_of(80).set_index("case")
    cases = table_in(done, "cases").query("method == 'age' and column == 'score'").set_index("case")
    for fold, split in enumerate(json.loads((original / "preprocessed" / DATASET / "splits_final.json").read_text())):
        inside, outside = table.loc[split["train"]], table.loc[split["val"]]
        slope, offset = np.polyfit(inside["age"], inside["score"], 1)
        got = cases[cases["fold"] == fold]["prediction"].astype(float)
        assert got.loc[outside.index].to_numpy() == pytest.approx(slope * outside["age"] + offset)


def test_the_ranking_is_by_the_rule_and_without_the_ensemble(done):
    ranking = table_in(done, "ranking")
    grade = ranking[ranking["column"] == "grade"]
    assert grade["method"].tolist() == ["CaseGood", "CaseWeak", "CaseNoise"]
    assert grade["rank"].tolist()[:2] == [1, 2]


def test_what_is_said(done):
    said = (done / "said.txt").read_text()
    assert "grade, CaseGood: auc 1 (1 to 1), 80 cases of 40 patients in 4 folds.\nBetter than majority level" in said
    assert "Better than every baseline." in said
    noise = said[said.index("grade, CaseNoise") :].split("\n\n")[0]
    assert "80 cases prove nothing: the interval is " in noise
    assert "Not better than age (gain " in noise
    assert "Better than every baseline" not in noise
    assert {path.name for path in done.glob("*.csv")} == {f"outcomes_{name}.csv" for name in FILES} | {"runs.csv"}


def test_ten_cases_prove_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("nnUNet_preprocessed", raising=False)
    monkeypatch.delenv("nnUNet_raw", raising=False)
    table = table_of(10)
    write_training(tmp_path / "results", "nnUNetTrainer_CaseGood", table, splits_of(table, 2), names=("grade",))
    assert outcomes(tmp_path) == 0
    said = capsys.readouterr().out
    assert "10 cases prove nothing: " in said
    assert "Better than every baseline" not in said
    assert "age" not in said  # there are no targets here
    page = (tmp_path / "out" / "outcomes.html").read_text()
    assert '<p class="open">10 cases prove nothing: ' in page


def test_the_page_is_whole_and_asks_for_nothing(done):
    text = (done / "outcomes.html").read_text()
    assert text.count("<img ") == 2
    assert "//" not in re.sub('src="data:[^"]*"', "", text)  # no address
    assert "<script" not in text
    for words in ("Not better than age", "Few cases prove nothing: fewer than 30 patients", "Research software"):
        assert words in text


def test_where_a_covariate_is_missing_its_baselines_are_left_out_and_the_rest_goes_on(workspace, capsys):
    path = workspace / "preprocessed" / DATASET / "targets.csv"
    table = pd.read_csv(path, dtype=str)
    table.loc[table["case"] == "case011", "age"] = ""
    table.to_csv(path, index=False)
    assert outcomes(workspace) == 0
    sentence = (
        "There is no baseline with age, for 1 case (case011) without a value of it in targets.csv; fill the cells"
    )
    assert capsys.readouterr().out.count(sentence) == len(NAMES)
    assert sentence in (workspace / "out" / "outcomes.html").read_text()
    gains = table_in(workspace / "out", "gains").groupby("column")["baseline"].agg(set).to_dict()
    assert gains == {"grade": {"majority level", "sex"}, "score": {"mean", "median", "sex"}}


def test_weights_that_were_chosen_on_the_cases_on_which_they_are_judged_are_told(workspace, capsys):
    for fold, name in ((0, "checkpoint_best.pth"), (2, "checkpoint_best.pth"), (3, "checkpoint_final.pth")):
        folder = model_of(workspace, "Weak") / f"fold_{fold}" / "validation"
        found = read(folder)
        write(folder, found.table, list(found.columns.values()), {**found.facts, "checkpoint": name})
    assert outcomes(workspace, "--covariates", "none") == 0
    sentence = (
        "Validated with checkpoint_best.pth in folds 0 (seed 1), 2 (seed 1): these weights were chosen on the very"
    )
    said = capsys.readouterr().out
    assert [part.split(":")[0] for part in said.split("\n\n") if sentence in part] == [
        "grade, CaseWeak",
        "score, CaseWeak",
    ]
    assert sentence in (workspace / "out" / "outcomes.html").read_text()


def test_cases_without_truth_are_left_out_and_told(workspace, capsys):
    for path in (workspace / "results").rglob("fold_0/validation"):
        found = read(path)
        table = found.table.copy()
        table.loc[(table["case"] == table["case"].iloc[0]) & (table["column"] == "score"), "truth"] = ""
        write(path, table, list(found.columns.values()))
    assert outcomes(workspace, "--covariates", "none") == 0
    said = capsys.readouterr().out
    assert "Cases without a known score, left out: 1." in said
    assert "79 cases of 40 patients" in said


def test_beside_segmentations_case_level_results_are_left_out_with_what_judges_them(workspace):
    reasons = set(find_runs([workspace / "results"]).left_out.values())
    assert reasons == {"its results are those of whole cases, see `nnunet_ext outcomes`"}


# --- external test


def external(workspace, *, cases=60, seed=5, skills=(("Good", 6), ("Weak", 1), ("Noise", 0))):
    """Predictions of further cases, whose targets are in the same table."""
    table = table_of(cases, seed)
    table["case"], table["patient"] = "new" + table["case"], "new" + table["patient"]
    both = pd.concat([table_of(80), table], ignore_index=True)
    both["set"] = ["train"] * 80 + ["test"] * cases
    write_targets(workspace / "preprocessed" / DATASET, both)
    words = []
    for name, skill in skills:
        rows = rows_of(table, list(table["case"]), "test", 1, skill, NAMES)
        write(workspace / "new" / name, rows, [COLUMNS[n] for n in NAMES])
        words += ["--test", f"Case{name}={workspace / 'new' / name}"]
    return words


def test_the_external_test_is_judged_and_tunes_nothing(workspace, capsys):
    """In the external test it is `Noise` that knows: what is chosen and weighted comes from the validation still."""
    words = external(workspace, skills=(("Good", 0), ("Weak", 0), ("Noise", 6)))
    assert outcomes(workspace, "--ensemble", "grid", "--best", 2, "--covariates", "age", *words) == 0
    said = capsys.readouterr().out
    assert "grade, CaseNoise: auc 1 (1 to 1), 60 cases of 30 patients in the external test." in said
    weights = table_in(workspace / "out", "weights").query("fold == 'test' and column == 'grade'")
    assert weights.set_index("method")["weight"].to_dict() == {"CaseGood": 1, "CaseWeak": 0}
    ranking = table_in(workspace / "out", "ranking").query("column == 'grade'")
    assert ranking["method"].tolist() == ["CaseGood", "CaseWeak", "CaseNoise"]
    summary = table_in(workspace / "out", "summary").query("tested == 'test'")
    assert "age" in set(summary["method"])
    assert set(summary["all_folds"]) == {1}


def test_a_case_of_the_validation_in_the_external_test_is_refused(workspace, capsys):
    words = external(workspace)
    rows = rows_of(table_of(80), ["case003"], "test", 1, 6, NAMES)
    for name in ("Good", "Weak", "Noise"):
        write(workspace / "new" / name, rows, [COLUMNS[n] for n in NAMES])
    assert outcomes(workspace, *words) == 2
    assert (
        "The case case003 of the external test was trained or validated with (1 of its 1 were)"
        in capsys.readouterr().err
    )
    assert not (workspace / "out").exists()


def test_the_patients_of_predictions_are_those_of_the_targets(workspace, capsys):
    """A table that predict-cases wrote knows no patients."""
    words = external(workspace)
    table = pd.read_csv(workspace / "preprocessed" / DATASET / "targets.csv", dtype=str)
    table.loc[table["case"] == "newcase007", "patient"] = "p03"
    table.to_csv(workspace / "preprocessed" / DATASET / "targets.csv", index=False)
    for name in ("Good", "Weak", "Noise"):
        found = read(workspace / "new" / name)
        write(workspace / "new" / name, found.table.drop(columns="patient"), list(found.columns.values()))
    assert outcomes(workspace, *words, "--covariates", "none") == 2
    assert (
        "The case newcase007 of the external test is of the same patient as case006, which" in capsys.readouterr().err
    )
