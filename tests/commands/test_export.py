"""A trained model as one file without code: the same voxels after it, and nothing taken over that was changed."""

import json
import shutil
import zipfile

import numpy as np
import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from benchmarks.interruptions.runs import Training
from nnunet_ext.cli import main
from nnunet_ext.commands.model_archive import MANIFEST
from nnunet_ext.trainers.reading import read_safely
from tests.trainers import workspace

NAME = "nnUNetTrainer_DualBranchGhost_XS_CoordConv_NoMirror_1epochs_iter2_seed7"
CONTENT = {
    MANIFEST,
    "plans.json",
    "dataset.json",
    "dataset_fingerprint.json",
    *(f"fold_0/{name}" for name in ("weights.safetensors", "checkpoint.json", "recipe.json")),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("trained")
    workspace.write(root)
    training = Training(root, root / "results", NAME)
    assert training.run() == 0, training.outputs()
    return training


def export(training, out, trainer=NAME, folds=("0",), monkeypatch=None):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("nnUNet_results", str(training.results))
        return main(["export", "-d", "999", "-tr", trainer, "-c", "3d_fullres", "-f", *folds, "-o", str(out)])


@pytest.fixture(scope="module")
def archive(trained, tmp_path_factory):
    out = tmp_path_factory.mktemp("archive") / "model.zip"
    assert export(trained, out) == 0
    return out


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty nnUNet_results."""
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "elsewhere"))
    return tmp_path / "elsewhere"


def model_folder(results):
    return results / workspace.DATASET / f"{NAME}__nnUNetPlans__3d_fullres"


def logits(folder):
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(folder), (0,))
    image, _ = workspace.case(np.random.default_rng(3), workspace.FOUR)
    coordinates = np.zeros((3, *image.shape[1:]), np.float32)
    return predictor.predict_logits_from_preprocessed_data(torch.from_numpy(np.concatenate([image, coordinates])))


def test_stock_prediction_gives_the_same_voxels_after_it(trained, archive, elsewhere, monkeypatch):
    monkeypatch.setenv("nnUNet_extTrainer", trained.environment(0)["nnUNet_extTrainer"])
    assert main(["import", str(archive)]) == 0
    here, there = logits(model_folder(elsewhere)), logits(model_folder(trained.results))
    assert torch.equal(here, there)
    assert here.abs().sum() > 0
    for name in ("plans.json", "dataset.json", "fold_0/recipe.json"):
        assert (model_folder(elsewhere) / name).read_bytes() == (model_folder(trained.results) / name).read_bytes()
    assert not list(elsewhere.glob("*/.import*"))


def test_nothing_in_it_is_a_pickle_and_equal_models_give_equal_files(trained, archive, tmp_path):
    assert export(trained, tmp_path / "again.zip") == 0
    assert (tmp_path / "again.zip").read_bytes() == archive.read_bytes()
    with zipfile.ZipFile(archive) as opened:
        assert set(opened.namelist()) == CONTENT
        manifest = json.loads(opened.read(MANIFEST))
        assert "device" not in json.loads(opened.read("fold_0/checkpoint.json"))["init_args"]
    assert manifest["sha256"].keys() == CONTENT - {MANIFEST}
    assert manifest["trainer"] == NAME


def test_the_weights_and_what_is_known_of_them_come_back(trained, archive, elsewhere):
    main(["import", str(archive)])
    mine, theirs = (
        read_safely(model_folder(results) / "fold_0" / "checkpoint_final.pth")
        for results in (elsewhere, trained.results)
    )
    assert mine["network_weights"].keys() == theirs["network_weights"].keys()
    assert all(torch.equal(value, theirs["network_weights"][key]) for key, value in mine["network_weights"].items())
    for key in ("trainer_name", "init_args", "inference_allowed_mirroring_axes", "current_epoch", "logging"):
        assert mine[key] == theirs[key], key
    assert mine["optimizer_state"] is None


def test_an_imported_model_is_not_trained_on(trained, archive, elsewhere):
    main(["import", str(archive)])
    imported = Training(trained.root, elsewhere, NAME)
    assert imported.run(goes_on=True) == 1
    assert "begin one with -pretrained_weights" in imported.outputs()


def changed(archive, out, change):
    """A copy of the archive whose files a function has changed."""
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(out, "w") as target:
        files = {name: source.read(name) for name in source.namelist()}
        for name, data in change(files).items():
            target.writestr(name, data)
    return out


def with_manifest(**fields):
    def change(files):
        return files | {MANIFEST: json.dumps(json.loads(files[MANIFEST]) | fields).encode()}

    return change


CHANGES = {
    "other weights": (
        lambda f: f | {"fold_0/weights.safetensors": f["fold_0/weights.safetensors"][:-1] + b"\1"},
        "fold_0/weights.safetensors is not what its manifest says",
    ),
    "a file more": (lambda f: f | {"../../evil.py": b""}, "../../evil.py is not what its manifest says"),
    "a file less": (
        lambda f: {k: v for k, v in f.items() if k != "plans.json"},
        "plans.json is not what its manifest says",
    ),
    "no manifest": (lambda f: {k: v for k, v in f.items() if k != MANIFEST}, "is no archive that `nnunet_ext export`"),
    "another format": (with_manifest(format=2), "has the format 2, this version reads 1"),
    "a path for a name": (with_manifest(dataset="../../evil"), "does not say which model it holds"),
    "a path for a fold": (with_manifest(folds=["0/../.."]), "does not say which model it holds"),
    "a fold less": (with_manifest(folds=["1"]), "lacks files of a model or holds others"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_a_changed_archive_is_refused_and_nothing_written(archive, elsewhere, tmp_path, capsys, case):
    change, expected = CHANGES[case]
    assert main(["import", str(changed(archive, tmp_path / "changed.zip", change))]) == 2
    assert expected in capsys.readouterr().err
    assert not elsewhere.exists()
    assert not list(tmp_path.rglob("evil*"))


def test_a_fold_that_is_there_is_not_overwritten(archive, elsewhere, capsys):
    assert main(["import", str(archive)]) == 0
    assert main(["import", str(archive)]) == 2
    assert "is there already; rename or remove it first" in capsys.readouterr().err


def test_folds_join_those_of_the_same_model_only(archive, elsewhere, capsys):
    assert main(["import", str(archive)]) == 0
    folder = model_folder(elsewhere)
    shutil.move(folder / "fold_0", folder / "fold_1")
    assert main(["import", str(archive)]) == 0
    assert {path.name for path in folder.glob("fold_*")} == {"fold_0", "fold_1"}
    shutil.rmtree(folder / "fold_0")
    (folder / "plans.json").write_text("{}")
    assert main(["import", str(archive)]) == 2
    assert "holds folds with another plans.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("trainer", "folds", "expected"),
    [("nnUNetTrainer", ("0",), "There is no plans.json"), (NAME, ("0", "3"), "no file")],
)
def test_a_model_that_is_not_there(trained, tmp_path, capsys, trainer, folds, expected):
    assert export(trained, tmp_path / "out.zip", trainer, folds) == 2
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "out.zip").exists()
