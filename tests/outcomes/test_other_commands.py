"""Commands for segmentations that are given case-level models or results: they hand over, or say what to use."""

import json
import shutil

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunet_ext.cli import main
from nnunet_ext.commands import predict_cascade
from nnunet_ext.outcomes import charts
from nnunet_ext.outcomes import results as tables
from tests.outcomes.conftest import CPU, NAME, fold_of
from tests.trainers import workspace
from tests.trainers.conftest import use

SENTENCE = (
    f"{NAME} predicts grade, stage, score, days of a case, not a segmentation; use nnunet_ext predict-cases -i "
    f"IMAGES -o FOLDER -d {workspace.DATASET} -tr {NAME} -p nnUNetPlans -c CONFIGURATION."
)


@pytest.fixture
def model(trained, case_dataset, monkeypatch):
    use(monkeypatch, case_dataset, trained)
    monkeypatch.setattr(charts, "DPI", 20)
    return fold_of(trained).parent


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """A case, and its segmentation in a folder beside."""
    root = tmp_path_factory.mktemp("one")
    for name in ("images", "labels"):
        (root / name).mkdir()
    channels, segmentation = workspace.case(np.random.default_rng(3), workspace.FOUR)
    for channel, volume in enumerate(channels):
        nib.save(nib.Nifti1Image(volume.transpose(2, 1, 0), np.eye(4)), root / "images" / f"a_{channel:04d}.nii.gz")
    nib.save(
        nib.Nifti1Image(segmentation[0].transpose(2, 1, 0).astype(np.uint8), np.eye(4)), root / "labels" / "a.nii.gz"
    )
    return root


def test_nnunets_predictor_is_told_which_command_predicts(model):
    predictor = nnUNetPredictor(device=CPU, perform_everything_on_device=False)
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - the whole sentence is compared
        predictor.initialize_from_trained_model_folder(str(model), [0])
    assert str(refused.value) == SENTENCE


@pytest.mark.parametrize("command", ["gradcam", "contributions"])
def test_what_explains_segmentations_says_the_same(model, image, tmp_path, capsys, command):
    words = ["-m", model, "-i", image / "images", "-o", tmp_path / "out", "-device", "cpu"]
    words += ["-l", image / "labels"] if command == "contributions" else []
    assert main([command, *map(str, words)]) == 2
    assert capsys.readouterr().err == f"nnunet_ext {command}: {SENTENCE}\n"
    assert not (tmp_path / "out").exists()


@pytest.fixture
def threads():
    """The cascade's command takes all cores; sums of later tests depend on their number."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
def test_so_does_the_cascade(model, image, tmp_path, monkeypatch, capsys):
    words = ["-i", image / "images", "-o", tmp_path / "out", "-d", workspace.DATASET, "-tr", NAME, "-c", "3d_fullres"]
    words += ["-f", "0", "-roi_tr", NAME, "-roi_c", "3d_fullres", "-roi_f", "0", "-device", "cpu"]
    monkeypatch.setattr("sys.argv", ["nnUNetv2_predict_cascade", *map(str, words)])
    assert predict_cascade.main() == 2
    assert SENTENCE in capsys.readouterr().err


def test_a_comparison_of_case_level_trainings_is_that_of_outcomes(model, tmp_path, capsys):
    assert main(["outcomes", str(model), "-o", str(tmp_path / "by_itself")]) == 0
    said = capsys.readouterr().out
    assert main(["compare", str(model), "-o", str(tmp_path / "compared")]) == 0
    out, err = capsys.readouterr()
    assert out == said
    assert f"what follows is that of nnunet_ext outcomes {model} -o {tmp_path / 'compared'}" in err
    for path in (tmp_path / "by_itself").glob("*.csv"):
        assert path.read_bytes() == (tmp_path / "compared" / path.name).read_bytes()
    assert main(["compare", str(model), "-o", str(tmp_path / "compared"), "--reference", "CaseUNETR"]) == 2
    assert "for which --reference means nothing; use nnunet_ext outcomes" in capsys.readouterr().err


def test_an_unfinished_case_level_training_is_not_handed_over(model, tmp_path, capsys):
    copy = tmp_path / workspace.DATASET / model.name
    shutil.copytree(model, copy)
    (copy / "fold_0" / "checkpoint_final.pth").unlink()
    assert main(["compare", str(copy), "-o", str(tmp_path / "compared")]) == 2
    assert "No training is finished" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["", "fold_0", "fold_0/validation"])
def test_an_ensemble_of_case_level_models_is_named(model, tmp_path, capsys, place):
    folder = model / place
    assert main(["ensemble", "-m", str(folder), "-m", str(model / "fold_1"), "-o", str(tmp_path / "e")]) == 2
    told = f"use nnunet_ext outcomes {folder} {model / 'fold_1'} -o {tmp_path / 'e'} --ensemble grid."
    assert told in capsys.readouterr().err
    assert main(["ensemble", "-m", str(folder), str(tmp_path), "-o", str(tmp_path / "e")]) == 2
    assert "--ensemble grid --test METHOD=FOLDER for each." in capsys.readouterr().err


def test_an_evaluation_of_case_level_predictions_is_refused(model, image, tmp_path, capsys):
    assert (
        main(["evaluate", str(image / "labels"), str(model / "fold_0" / "validation"), "-o", str(tmp_path / "v")]) == 2
    )
    assert "holds predictions of whole cases, case_metrics.csv; use nnunet_ext outcomes." in capsys.readouterr().err


def test_an_exported_model_predicts_the_same(model, image, tmp_path, monkeypatch):
    names = ["-d", workspace.DATASET, "-tr", NAME, "-c", "3d_fullres", "-f", "0"]
    predict = ["predict-cases", "-i", str(image / "images"), *names, "-device", "cpu", "-o"]
    assert main([*predict, str(tmp_path / "before")]) == 0
    assert main(["export", *names, "-o", str(tmp_path / "model.zip")]) == 0
    (tmp_path / "elsewhere" / workspace.DATASET).mkdir(parents=True)
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "elsewhere"))
    assert main(["import", str(tmp_path / "model.zip")]) == 0
    assert main([*predict, str(tmp_path / "after")]) == 0
    before, after = (tables.read(tmp_path / name).table for name in ("before", "after"))
    pd.testing.assert_frame_equal(before, after)


def test_the_list_has_the_networks_for_cases(capsys):
    assert main(["list", "--task", "case-level"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["network", "sizes", "trainer", "for", "what"]
    assert any("nnUNetTrainer_CaseResNet50 " in line and " 2D " in line for line in lines)
    assert main(["list", "--task", "case-level", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == len(lines) - 1
    assert main(["list"]) == 0
    assert f"{len(lines) - 1} networks for case-level targets" in capsys.readouterr().out
