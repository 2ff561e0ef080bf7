"""What `nnunet_ext outcomes` refuses or leaves out: damaged and incomplete results, folds that do not go together."""
# ruff: noqa: F811  (fixtures that are imported are arguments of the same name)

import json
import re
import shutil

import pandas as pd
import pytest

from nnunet_ext.outcomes.results import FACTS_FILE, TABLE_FILE, read, write
from tests.outcomes.test_command import model_of, original, outcomes, workspace  # noqa: F401
from tests.outcomes.workspace import DATASET, splits_of, table_of, write_training

NAMES = ("grade", "score")


def drop_case(workspace):
    (workspace / "preprocessed" / DATASET / "splits_final.json").unlink()  # which would tell what is lacking
    folder = model_of(workspace) / "fold_1" / "validation"
    found = read(folder)
    write(folder, found.table[found.table["case"] != "case003"], list(found.columns.values()))


def other_columns(workspace):
    folder = model_of(workspace) / "fold_1" / "validation"
    found = read(folder)
    kept = found.table[found.table["column"] == "grade"]
    write(folder, kept, [found.columns["grade"]])


def other_fold(workspace):
    folder = model_of(workspace) / "fold_1" / "validation"
    shutil.copytree(model_of(workspace) / "fold_2" / "validation", folder, dirs_exist_ok=True)


def twice(workspace):
    path = model_of(workspace) / "fold_1" / "validation" / TABLE_FILE
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[1]]) + "\n")


def nan(workspace):
    path = model_of(workspace) / "fold_1" / "validation" / TABLE_FILE
    head, *lines = path.read_text().splitlines()
    place = head.split(",").index("prediction")
    cells = lines[-1].split(",")
    cells[place] = "nan"
    path.write_text("\n".join([head, *lines[:-1], ",".join(cells)]) + "\n")


def shared_patient(workspace):
    path = workspace / "preprocessed" / DATASET / "targets.csv"
    pd.read_csv(path, dtype=str).assign(patient="p00").to_csv(path, index=False)


def no_json(workspace):
    (model_of(workspace) / "fold_1" / "validation" / FACTS_FILE).unlink()


def all_fold(workspace):
    for path in (workspace / "results" / DATASET).iterdir():
        for fold in list(path.glob("fold_*")):
            fold.rename(path / "fold_all") if fold.name == "fold_0" else shutil.rmtree(fold)


def other_dataset(workspace):
    model = workspace / "results" / "Dataset502_Other" / "nnUNetTrainer_CaseGood__nnUNetPlans__3d_roi"
    shutil.copytree(model_of(workspace), model)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (
            drop_case,
            "differ in fold 1: other cases, patients or grade; train all methods on the same splits and targets.",
        ),
        (other_columns, "The trainings predict different columns or levels ("),
        (other_fold, "holds rows of fold 2; validate fold 1 again."),
        (twice, "has the case "),
        (nan, "has 'nan' as prediction of score for "),
        (shared_patient, "case000 in fold 0 and case002 in fold 1 are of one patient"),
        (no_json, "holds no case_metrics.json; the validation of a case-level training writes both."),
        (all_fold, "was validated on the cases it was trained on; name folds with a number."),
        (other_dataset, "The trainings are of several datasets, Dataset501_Made, Dataset502_Other"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_bad_results_are_one_sentence_and_nothing_is_written(workspace, capsys, spoil, sentence):
    spoil(workspace)
    assert outcomes(workspace) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert sentence in err
    assert err.count("\n") == 1
    assert not (workspace / "out").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--covariates", "weight"], "weight is no covariate of targets.json, which declares age, sex."),
        (["--test", "CaseGood"], "--test CaseGood: expected METHOD=DIR with one of CaseGood, CaseNoise, CaseWeak."),
        (["--best", "0"], "--best is 0; an ensemble has 1 method or more."),
        (["--targets", "nowhere"], "There is no nowhere/targets.json"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_bad_options_are_one_sentence(workspace, capsys, words, sentence):
    assert outcomes(workspace, *words) == 2
    assert sentence in capsys.readouterr().err


def test_a_single_fold_needs_its_training_cases(workspace, capsys, monkeypatch):
    fold = f"results/{DATASET}/{model_of(workspace).name}/fold_1"
    assert outcomes(workspace, results=fold) == 0  # from the splits and targets
    capsys.readouterr()
    monkeypatch.delenv("nnUNet_preprocessed")
    assert outcomes(workspace, results=fold) == 2
    assert "The baselines of grade need the training cases of fold 1: name the other folds" in capsys.readouterr().err
    assert (
        outcomes(workspace, "--ensemble", "grid", "--targets", workspace / "preprocessed" / DATASET, results=fold) == 2
    )
    assert "An ensemble is weighted on other folds than it is tested on; name two folds" in capsys.readouterr().err


def test_splits_that_train_on_what_they_validate_are_refused(workspace, capsys):
    path = workspace / "preprocessed" / DATASET / "splits_final.json"
    splits = json.loads(path.read_text())
    splits[1]["train"].append(splits[1]["val"][0])
    path.write_text(json.dumps(splits))
    assert outcomes(workspace) == 2
    assert f"splits_final.json trains fold 1 on {splits[1]['val'][0]}, which it validates" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "spoilt", "sentence"),
    [
        (FACTS_FILE, "[]", "holds list where an object is expected"),
        (FACTS_FILE, '{"format": 1}', "lacks the declarations of the columns"),
        (FACTS_FILE, '{"format": 1, "columns": {"grade": 3}}', "column 'grade', holds 3, not an object"),
        (FACTS_FILE, '{"format": 1, "colu', "cannot be read (Unterminated string"),
        (TABLE_FILE, "", "has no row"),
        (TABLE_FILE, lambda text: text.partition("\n")[0], "has no row"),
        (TABLE_FILE, lambda text: re.sub(r",0\.\d+,", ",much,", text, count=1), "has 'much' as "),
        (TABLE_FILE, lambda text: text[: text.rindex(",") - 3], "cells in a line of 'case0"),
        (TABLE_FILE, lambda text: text.replace("p_LGG", "p_HGG"), "has a field twice in case, patient"),
        (TABLE_FILE, lambda text: text.replace("HGG", 'H"GG', 1).replace("HGG", '"HGG', 1), "is no table ("),
    ],
)
def test_a_damaged_file_is_named_with_what_to_do(workspace, capsys, name, spoilt, sentence):
    path = model_of(workspace) / "fold_1" / "validation" / name
    path.write_text(spoilt if isinstance(spoilt, str) else spoilt(path.read_text()))
    assert outcomes(workspace) == 2
    out, err = capsys.readouterr()
    assert str(path) in err
    assert sentence in err
    assert "write it anew, a fold's by `nnUNetv2_train ... --val`" in err
    assert (out, err.count("\n")) == ("", 1)
    assert not (workspace / "out").exists()


def drop_row(path, case, column):
    found = read(path)
    rows = found.table[(found.table["case"] != case) | (found.table["column"] != column)]
    write(path, rows, list(found.columns.values()))


def test_a_fold_whose_table_lacks_validation_cases_is_left_out(workspace, capsys):
    for seed in (1, 2):
        drop_row(model_of(workspace, seed=seed) / "fold_1" / "validation", "case003", "score")
    assert outcomes(workspace, "--covariates", "none") == 1
    out, err = capsys.readouterr()
    assert "60 cases of 30 patients in 3 folds" in out
    assert f"{model_of(workspace) / 'fold_1'} is left out: its case_metrics.csv lacks 1 case (case003) that" in err
    for seed in (1, 2):
        for fold in range(4):
            case = splits_of(table_of(80))[fold]["val"][0]
            drop_row(model_of(workspace, seed=seed) / f"fold_{fold}" / "validation", case, "grade")
    results = f"results/{DATASET}/{model_of(workspace).name}"
    assert outcomes(workspace, results=results) == 2
    assert "No case-level training is finished: " in capsys.readouterr().err


def test_a_case_that_two_folds_validate_is_told_as_such(workspace, capsys):
    """As the BraTS converter's fold 5 does, a hold-out split of all cases."""
    path = workspace / "preprocessed" / DATASET / "splits_final.json"
    splits = [*json.loads(path.read_text()), {"train": [f"case{i:03d}" for i in range(4, 80)], "val": []}]
    splits[4]["val"] = [f"case{i:03d}" for i in range(4)]
    path.write_text(json.dumps(splits))
    shutil.rmtree(workspace / "results")
    write_training(workspace / "results", model_of(workspace).name.split("__")[0], table_of(80), splits, names=NAMES)
    assert outcomes(workspace) == 2
    err = capsys.readouterr().err
    assert "case000 is validated in fold 0 and in fold 4, so these are no folds of one cross-validation" in err
    assert "name the folders of those that are" in err


def test_an_unfinished_training_is_told(workspace, capsys):
    (model_of(workspace) / "fold_3" / "checkpoint_final.pth").unlink()
    assert outcomes(workspace, "--covariates", "none") == 1
    told = capsys.readouterr().err  # of the other methods one seed is left out, for all have one with all folds
    assert (
        "fold_3 is left out: the training or its final validation (validation/case_metrics.csv) is not finished."
        in told
    )
    assert "with all folds 0, 1, 2, 3" in told
