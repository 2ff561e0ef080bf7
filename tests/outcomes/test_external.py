"""The external test of `nnunet_ext outcomes`: its cases, their patients, and what it is set beside."""
# ruff: noqa: F811  (fixtures that are imported are arguments of the same name)

import json
import shutil

import pandas as pd
import pytest

from nnunet_ext.outcomes.results import write
from tests.outcomes.test_command import external, model_of, original, outcomes, table_in, workspace  # noqa: F401
from tests.outcomes.workspace import COLUMNS, DATASET, SCHEMA, rows_of, splits_of, table_of, write_targets

NAMES = ("grade", "score")
UNKNOWN = "The patients of the external test are unknown for 6 cases (new0, new1, new2, new3, new4 and 1 more): each"


@pytest.fixture(autouse=True)
def one_method(workspace):
    """`Good` alone, with one seed."""
    for path in (workspace / "results" / DATASET).iterdir():
        if path != model_of(workspace):
            shutil.rmtree(path)


def predicted(workspace, cases, patients, facts=None, groups=("patient",), **further):
    """What predict-cases writes of cases that the dataset's table does not have; the option that names it."""
    table = table_of(80, 5).iloc[: len(cases)].assign(case=cases, patient=patients or "", **further)
    rows = rows_of(table, list(cases), "test", 1, 6, NAMES)
    told = table.set_index("case")
    for name in further:
        rows[name] = told.loc[rows["case"], name].to_numpy()
    rows = rows if patients else rows.drop(columns="patient")
    write(workspace / "new", rows, [COLUMNS[name] for name in NAMES], facts, groups if patients else ())
    return "--test", f"CaseGood={workspace / 'new'}"


def news(count=6):
    return [f"new{i}" for i in range(count)]


def fold_0(workspace):
    return f"results/{DATASET}/{model_of(workspace).name}/fold_0"


def test_cases_of_one_patient_are_no_further_evidence(workspace, capsys):
    """Their patients are in the predictions alone; nine cases of a patient are one."""
    words = predicted(workspace, news(), ["q0", "q0", "q1", "q1", "q2", "q2"])
    assert outcomes(workspace, *words, "--covariates", "none") == 0
    said = capsys.readouterr().out
    assert "6 cases of 3 patients in the external test." in said
    assert "unknown" not in said
    cases = table_in(workspace / "out", "cases").query(
        "tested == 'test' and method == 'CaseGood' and column == 'grade'"
    )
    assert cases.set_index("case")["patient"].to_dict() == {f"new{i}": f"new{i // 2 * 2}" for i in range(6)}


def test_any_column_of_patients_binds_cases(workspace, capsys):
    """Two patients with one record are one patient."""
    table = table_of(80).assign(record=[f"r{i // 2}" for i in range(80)])
    write_targets(workspace / "preprocessed" / DATASET, table, {**SCHEMA, "groups": ["patient", "record"]})
    patients, records = ["q0", "q0", "q1", "q1", "q2", "q2"], ["s0", "s1", "s1", "s2", "s3", "s3"]
    words = predicted(workspace, news(), patients, groups=("patient", "record"), record=records)
    assert outcomes(workspace, *words, "--covariates", "none") == 0
    assert "6 cases of 2 patients in the external test." in capsys.readouterr().out
    words = predicted(workspace, news(), patients, groups=("patient", "record"), record=[*records[:5], "r7"])
    assert outcomes(workspace, *words, "--covariates", "none") == 2
    assert "The case new4 of the external test is of the same patient as case014, which" in capsys.readouterr().err


def test_where_nobody_names_the_patients_that_is_said(workspace, capsys):
    assert outcomes(workspace, *predicted(workspace, news(), None), "--covariates", "none") == 0
    said = capsys.readouterr().out
    assert "6 cases of 6 patients in the external test." in said
    assert UNKNOWN in said
    assert UNKNOWN in (workspace / "out" / "outcomes.html").read_text()


def test_without_the_datasets_table_nobody_can_tell_whose_patients_were_trained_with(workspace, capsys, monkeypatch):
    monkeypatch.delenv("nnUNet_preprocessed")
    assert outcomes(workspace, *predicted(workspace, news(), ["q0"] * 3 + ["q1"] * 3)) == 0
    said = capsys.readouterr().out
    assert "6 cases of 2 patients in the external test." in said
    assert "Without the dataset's targets.csv nobody can tell" in said


@pytest.mark.parametrize("fold", ["all", "one"])
def test_patients_of_the_dataset_are_refused_by_the_names_that_predictions_have(workspace, capsys, fold):
    """Fold 0 validates every fourth patient and trains with the others, of whom p03 is one."""
    words = predicted(workspace, news(), ["q0", "q0", "q1", "p03", "q2", "q2"])
    results = "results" if fold == "all" else fold_0(workspace)
    assert outcomes(workspace, *words, results=results) == 2
    err = capsys.readouterr().err
    assert "The case new3 of the external test is of the same patient as case006, which was trained or validated" in err
    assert not (workspace / "out").exists()


def test_cases_that_the_networks_were_trained_with_are_refused(workspace, capsys):
    """One fold alone: its validation has none of these, its training has."""
    training = splits_of(table_of(80))[0]["train"]
    words = predicted(workspace, [*news(5), training[7]], None)
    assert outcomes(workspace, *words, results=fold_0(workspace)) == 2
    said = capsys.readouterr().err
    assert f"The case {training[7]} of the external test was trained or validated with (1 of its 6 were)" in said


@pytest.mark.parametrize("facts", [None, {"folds": [0]}, {"folds": [0, 1, 2]}])
def test_baselines_of_the_test_are_fitted_on_what_the_networks_saw(workspace, facts):
    """With one fold judged; where the prediction tells the folds of its networks, on all that these saw."""
    words = predicted(workspace, news(), None, facts)
    assert outcomes(workspace, *words, "--covariates", "none", results=fold_0(workspace)) == 0
    splits = splits_of(table_of(80))
    saw = {case for fold in (facts or {"folds": [0]})["folds"] for case in splits[fold]["train"]}
    scores = table_of(80).set_index("case").loc[sorted(saw), "score"]
    cases = table_in(workspace / "out", "cases").query("tested == 'test' and method == 'mean'")
    assert cases["prediction"].astype(float).to_numpy() == pytest.approx([scores.mean()] * 6)


def test_covariates_that_the_table_does_not_have_of_tested_cases_are_no_baselines_there(workspace, capsys):
    assert outcomes(workspace, *predicted(workspace, news(), None)) == 0
    said = capsys.readouterr().out
    assert (
        "There is no baseline with age, for 6 cases (new0, new1, new2, new3, new4 and 1 more) without a value" in said
    )
    gains = table_in(workspace / "out", "gains").query("column == 'grade'")
    found = gains.groupby("tested")["baseline"].agg(set).to_dict()
    assert found == {"cross-validation": {"majority level", "age", "sex", "age + sex"}, "test": {"majority level"}}


def test_predictions_of_different_cases_are_no_test_of_both(workspace, capsys):
    shutil.copytree(model_of(workspace), model_of(workspace, "Weak"))
    words = predicted(workspace, news(), None)
    shutil.copytree(workspace / "new", workspace / "first")
    predicted(workspace, news(5), None)
    words = ("--test", f"CaseGood={workspace / 'first'}", "--test", f"CaseWeak={workspace / 'new'}")
    assert outcomes(workspace, *words, "--covariates", "none") == 2
    assert "differ in fold test: other cases, patients or grade; predict the same images" in capsys.readouterr().err


def test_cases_that_the_table_keeps_for_testing_are_no_part_of_the_training(workspace, capsys, monkeypatch):
    """Also where no splits are known, and all training cases of the table count as seen."""
    words = external(workspace, skills=(("Good", 6),))
    (workspace / "preprocessed" / DATASET / "splits_final.json").unlink()
    assert outcomes(workspace, *words) == 0
    assert "60 cases of 30 patients in the external test." in capsys.readouterr().out
    path = workspace / "preprocessed" / DATASET / "targets.csv"
    table = pd.read_csv(path, dtype=str)
    table.loc[table["case"] == "newcase007", "set"] = "train"
    table.to_csv(path, index=False)
    assert outcomes(workspace, *words) == 2
    assert "The case newcase007 of the external test was trained or validated with" in capsys.readouterr().err


def test_splits_that_are_no_splits_are_told(workspace, capsys):
    path = workspace / "preprocessed" / DATASET / "splits_final.json"
    for text, sentence in (("[{", "cannot be read"), ("[[]]", "is no list of"), (json.dumps({}), "holds dict where")):
        path.write_text(text)
        assert outcomes(workspace) == 2
        err = capsys.readouterr().err
        assert f"{path} {sentence}" in err
        assert "restore that of the trainings" in err
