"""nnunet_ext compare on what is broken: one clear sentence, an exit code, and nothing half-written."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from nnunet_ext.cli import main
from nnunet_ext.commands import compare
from nnunet_ext.evaluation.table import read_summary
from tests.evaluation.results import DATASET, FOLDS, METHODS, make_results, write

GT = f"preprocessed/{DATASET}/gt_segmentations"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("made")
    make_results(root, seeds=(1,))
    return root


@pytest.fixture
def root(made, tmp_path, monkeypatch):
    """A copy of two methods with one seed and two folds each, which a test may break."""
    shutil.copytree(made, tmp_path / "w")
    for name in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / "w" / name))
    return tmp_path / "w"


def model(root, method=0):
    return root / "results" / DATASET / f"{METHODS[method]}_seed1__nnUNetPlans_cpu__3d_fullres"


def run(root, *words):
    return main(["compare", str(root / "results"), "-o", str(root / "out"), "--no-cost", "--no-report", *words])


def spoil(path, text="{ damaged"):
    path.write_text(text)


def other_splits(root):
    """The second method's first fold has the cases of a split of its own."""
    folder = model(root, 1) / "fold_0/validation"
    for case, name in zip(FOLDS[0], ("case_x", "case_y"), strict=True):
        (folder / f"{case}.nii.gz").rename(folder / f"{name}.nii.gz")


def other_labels(root):
    path = model(root, 1) / "dataset.json"
    spoil(path, json.dumps({**json.loads(path.read_text()), "labels": {"background": 0, "whole tumor": 1}}))


def nothing_finished(root):
    for path in root.rglob("checkpoint_final.pth"):
        path.unlink()


def no_common_fold(root):
    shutil.rmtree(model(root, 0) / "fold_0")
    shutil.rmtree(model(root, 1) / "fold_1")


REFUSED = {
    "another split": (other_splits, "No case of fold 0 was predicted by every training"),
    "other labels": (other_labels, "compare trainings that segment the same"),
    "damaged dataset.json": (lambda root: spoil(model(root) / "dataset.json"), "expected nnU-Net's dataset.json"),
    "no dataset.json": (lambda root: (model(root) / "dataset.json").unlink(), "expected nnU-Net's dataset.json"),
    "a list as dataset.json": (lambda root: spoil(model(root) / "dataset.json", "[]"), "list where an object"),
    "damaged summary.json": (lambda root: spoil(model(root) / "fold_1/validation/summary.json"), "summary.json cannot"),
    "damaged recipe.json": (lambda root: spoil(model(root) / "fold_1/recipe.json"), "recipe.json cannot be read"),
    "damaged debug.json": (lambda root: spoil(model(root) / "fold_1/debug.json"), "debug.json cannot be read"),
    "damaged progress": (
        lambda root: spoil(model(root) / "fold_0/progress.jsonl", "{\n{}\n"),
        "progress.jsonl, line 1, cannot be read",
    ),
    "damaged splits": (
        lambda root: spoil(root / f"preprocessed/{DATASET}/splits_final.json"),
        "splits_final.json cannot be read",
    ),
    "splits with fewer folds": (
        lambda root: spoil(root / f"preprocessed/{DATASET}/splits_final.json", "[]"),
        "the predictions are of 0",
    ),
    "nothing finished": (nothing_finished, "No training is finished"),
    "no common fold": (no_common_fold, "No fold was trained with every method"),
    "two datasets": (
        lambda root: (
            model(root).parent.with_name("Dataset502_Other").joinpath(model(root).name, "fold_0").mkdir(parents=True)
        ),
        "are of several datasets",
    ),
    "no references": (lambda root: shutil.rmtree(root / GT), "name their folder with --labels"),
    "a file as output": (lambda root: spoil(root / "out"), "is a file"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused_in_one_sentence(root, capsys, what):
    change, told = REFUSED[what]
    change(root)
    assert run(root) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("nnunet_ext compare:")]
    assert len(said) == 1
    assert told in said[0]
    assert not list((root / "out").glob("*.csv"))
    assert not [path for path in root.rglob("*") if "partial" in path.name]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--jobs", "0"), "--jobs must be at least 1"),
        (("--worst", "-1"), "--worst must be at least 0"),
        (("--latency", "-1"), "--latency must be at least 0"),
    ],
)
def test_bad_numbers(root, capsys, words, told):
    assert run(root, *words) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("place", ["nowhere", "preprocessed"])
def test_no_results(root, capsys, place):
    assert main(["compare", str(root / place), "-o", str(root / "out")]) == 2
    assert "holds no trained model" in capsys.readouterr().err


def test_damaged_and_missing_files_of_cases_are_failures(root, capsys):
    path = model(root) / "fold_0/validation/case_a.nii.gz"
    path.write_bytes(path.read_bytes()[:40])
    (model(root) / "fold_1/validation/case_c.nii.gz").unlink()
    write(model(root) / "fold_1/validation/case_d.nii.gz", np.full((12, 12, 12), 4))
    assert run(root) == 1
    assert "3 cases failed in some training and count with the worst values: case_a, case_c, case_d" in (
        capsys.readouterr().out
    )
    table = pd.read_csv(root / "out" / compare.INTEGRATED)
    assert (table[table["note"].str.contains("cut off", na=False) & (table["metric"] == "Dice")]["value"] == 0).all()
    assert len(table[table["metric"] == "Dice"]) == 2 * 4 * 5
    failures = [read_summary(path.parent)["failures"] for path in (root / "out/evaluations").rglob("summary.json")]
    told = " ".join(why for found in failures for why in found.values())
    assert all(words in told for words in ("cut off", "There is no prediction for case_c", "has the label 4"))


def test_one_fold_only(root):
    for method in (0, 1):
        shutil.rmtree(model(root, method) / "fold_1")
    assert run(root) == 0
    assert set(pd.read_csv(root / "out" / compare.MODELS)["folds"]) == {1}
    for method in (0, 1):
        (model(root, method) / "fold_0/validation/case_a.nii.gz").unlink()
    splits = root / f"preprocessed/{DATASET}/splits_final.json"
    spoil(splits, json.dumps([{"train": [], "val": ["case_b"]}]))
    shutil.rmtree(root / "out")
    assert run(root) == 0  # one case: means without an interval
    assert pd.read_csv(root / "out" / compare.MODELS)["low"].isna().all()


def test_an_interrupted_evaluation_goes_on_and_a_damaged_line_is_done_again(root):
    assert run(root) == 0
    kept = next((root / "out/evaluations").rglob("cases.jsonl"))
    header, first, second = kept.read_text().splitlines()
    before = (root / "out" / compare.INTEGRATED).read_bytes()
    kept.write_text(f"{header}\n{first[:20]}\n{second[:-30]}")
    assert run(root) == 0
    assert (root / "out" / compare.INTEGRATED).read_bytes() == before
    assert len(kept.read_text().splitlines()) == 3


def test_a_damaged_image_is_left_out_of_its_overlay(root, capsys):
    for case in ("case_a", "case_b", "case_c", "case_d"):
        path = root / f"raw/{DATASET}/imagesTr/{case}_0000.nii.gz"
        write(path, np.ones((12, 12, 12)))
        if case == "case_b":
            path.write_bytes(path.read_bytes()[:30])
        if case == "case_c":
            write(path, np.ones((3, 3, 3)))
    words = ["compare", str(root / "results"), "-o", str(root / "out"), "--no-cost"]
    assert main(words) == 0
    told = capsys.readouterr().err
    assert all(f"{case}_0000.nii.gz is damaged or of another shape" in told for case in ("case_b", "case_c"))
    assert len(list((root / "out/overlays").glob("*.png"))) == 4
