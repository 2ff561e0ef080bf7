import shutil

import numpy as np
import pandas as pd
import pytest

from nnunet_ext.cli import main
from nnunet_ext.commands import compare
from tests.evaluation.results import DATASET, FOLDS, METHODS, make_results, write

GHOST, UNET = "DualBranchGhost_XS", "UNet3D_XS"


@pytest.fixture(scope="module")
def variables(tmp_path_factory):
    return make_results(tmp_path_factory.mktemp("results"))


@pytest.fixture
def results(variables, monkeypatch, tmp_path):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return variables["nnUNet_results"]


@pytest.fixture(scope="module")
def compared(variables, tmp_path_factory):
    out = tmp_path_factory.mktemp("compared")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        code = main(["compare", variables["nnUNet_results"], "-o", str(out), "--no-cost"])
    assert code == 0
    return out


def table(folder, name):
    return pd.read_csv(folder / name)


def test_every_value_has_a_row_and_a_run(compared):
    found = table(compared, compare.INTEGRATED)
    dice = found[(found["metric"] == "Dice") & (found["region"] == "WT")]
    assert len(dice) == len(METHODS) * 2 * 4
    assert set(found["method"]) == {GHOST, UNET}
    assert set(found["run"]) == set(table(compared, compare.RUNS)["run"])
    assert found["value"].notna().all()


def test_what_a_run_says_of_itself(compared):
    runs = table(compared, compare.RUNS)
    assert set(runs["convention"]) == {"brats"}
    for column in ("splits_sha256", "checkpoint_sha256", "dataset_sha256", "cases_sha256", "predictions"):
        assert runs[column].notna().all(), column
    assert runs.groupby("fold")["cases_sha256"].nunique().tolist() == [1, 1]


def test_the_models_table_is_the_mean_of_the_values(compared):
    found, models = table(compared, compare.INTEGRATED), table(compared, compare.MODELS)
    for method, region, metric, mean in models[["method", "region", "metric", "mean"]].to_numpy():
        chosen = found[(found["method"] == method) & (found["region"] == region) & (found["metric"] == metric)]
        assert mean == pytest.approx(chosen["value"].mean())
    assert (models["low"] <= models["mean"]).all()


def test_the_better_method_ranks_first_and_epochs_are_listed(compared):
    assert table(compared, compare.RANKING)["method"].tolist() == [GHOST, UNET]
    comparisons = table(compared, compare.COMPARISONS)
    sign = np.where(comparisons["first"] == GHOST, 1, -1)
    assert (sign * comparisons["difference"] > 0).all()  # for distances as well
    epochs = table(compared, compare.EPOCHS)
    assert len(epochs) == len(METHODS) * 2 * len(FOLDS)
    assert set(epochs["train_loss"]) == {0.5}


def test_the_pictures_show_something(compared):
    from PIL import Image

    for name in ("learning_curves", "model_comparison_chart", "ranking"):
        with Image.open(compared / f"{name}.png") as picture:
            assert len(picture.convert("L").getcolors()) > 10, name


def test_the_same_command_evaluates_nothing_again(compared, results, capsys):
    before = {p: p.stat().st_mtime_ns for p in compared.rglob("cases.jsonl")}
    first = (compared / compare.INTEGRATED).read_bytes()
    assert main(["compare", results, "-o", str(compared), "--no-cost", "--no-report"]) == 0
    assert (compared / compare.INTEGRATED).read_bytes() == first
    assert len(before) == 8
    assert "mean rank" in capsys.readouterr().out


def test_one_seed_says_that_no_verdict_is_possible(results, tmp_path, capsys):
    models = [f"{results}/{DATASET}/{method}_seed1__nnUNetPlans_cpu__3d_fullres" for method in METHODS]
    assert (
        main(
            ["compare", *models, "-o", str(tmp_path), "--no-cost", "--no-report", "--reference", METHODS[0] + "_seed1"]
        )
        == 0
    )
    assert "No verdict between methods is possible" in capsys.readouterr().out
    assert set(table(tmp_path, compare.COMPARISONS)["second"]) == {UNET}


def test_a_running_training_is_left_out_with_exit_code_1(variables, monkeypatch, tmp_path, capsys):
    copied = tmp_path / "results"
    shutil.copytree(variables["nnUNet_results"], copied)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    (next(copied.glob("*/*Ghost*seed2*")) / "fold_1" / "checkpoint_final.pth").unlink()
    assert main(["compare", str(copied), "-o", str(tmp_path / "out"), "--no-cost", "--no-report"]) == 1
    told = capsys.readouterr().err
    assert "not finished" in told
    assert "not every method has" in told


def test_verify_recomputes_and_finds_a_changed_prediction(variables, monkeypatch, tmp_path, capsys):
    copied = tmp_path / "results"
    shutil.copytree(variables["nnUNet_results"], copied)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    out = tmp_path / "out"
    assert main(["compare", str(copied), "-o", str(out), "--no-cost", "--no-report"]) == 0
    assert main(["compare", str(copied), "-o", str(out), "--verify"]) == 0
    assert "all are what the tables say" in capsys.readouterr().out
    for prediction in copied.rglob("validation/*.nii.gz"):
        write(prediction, np.zeros((12, 12, 12)))
    assert main(["compare", str(copied), "-o", str(out), "--verify"]) == 1
    assert "in the table" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--reference", "nnUNetTrainer_Other"], "not among the methods"),
        (["--labels", "nowhere"], "nowhere"),
    ],
)
def test_bad_input(results, tmp_path, capsys, words, message):
    assert main(["compare", results, "-o", str(tmp_path / "out"), "--no-cost", "--no-report", *words]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("out/*.csv"))


def test_verify_needs_a_comparison(results, tmp_path, capsys):
    assert main(["compare", results, "-o", str(tmp_path), "--verify"]) == 2
    assert "make the comparison" in capsys.readouterr().err
