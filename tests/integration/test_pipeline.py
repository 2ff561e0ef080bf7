"""The main job by the commands of the README, on tiny phantoms: convert, plan, train, predict, evaluate, share."""

import json
import shutil
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.integration.conftest import MODEL, TRAINER, Workspace


def segmentations(folder: Path) -> dict[str, np.ndarray]:
    return {p.name: np.asarray(nib.load(p).dataobj) for p in sorted(folder.glob("*.nii.gz"))}


@pytest.fixture(scope="module")
def predicted(trained, tmp_path_factory):
    """Predictions of the held-out cases by plain nnUNetv2_predict."""
    out = tmp_path_factory.mktemp("predicted")
    predict(trained, out)
    return out


def predict(space: Workspace, out: Path) -> None:
    options = ["-d", 501, "-c", "3d_fullres", "-f", 0, *MODEL, "-device", "cpu", "--disable_tta", "-npp", 1, "-nps", 1]
    space.run("nnUNetv2_predict", "-i", space.folder("nnUNet_raw") / "imagesTs", "-o", out, *options)


def test_nnunet_uses_the_splits_of_the_conversion(trained):
    raw, preprocessed = (trained.folder(n) / "splits_final.json" for n in ("nnUNet_raw", "nnUNet_preprocessed"))
    assert json.loads(raw.read_text()) == json.loads(preprocessed.read_text())


def test_predictions_can_be_evaluated_and_restored(trained, predicted, tmp_path):
    truth = trained.folder("nnUNet_raw") / "labelsTs"
    files = ["-djfile", predicted / "dataset.json", "-pfile", predicted / "plans.json"]
    trained.run("nnUNetv2_evaluate_folder", truth, predicted, *files, "-np", 1)
    assert set(json.loads((predicted / "summary.json").read_text())["mean"]) == {"(1, 2, 3)", "(1, 3)", "(3,)"}
    restored = tmp_path / "restored"
    trained.run(sys.executable, "dataset_conversion/restore_brats_labels.py", predicted, restored, "--edition", 2021)
    for name, segmentation in segmentations(predicted).items():
        expected = np.where(segmentation == 3, 4, segmentation)
        assert np.array_equal(segmentations(restored)[name], expected)


def test_the_best_configuration_can_be_found(trained):
    out = trained.run("nnUNetv2_find_best_configuration", 501, "-c", "3d_fullres", *MODEL, "-f", 0, "-np", 1)
    assert TRAINER in out


def test_a_shared_model_predicts_the_same_voxels(trained, predicted, tmp_path):
    archive = tmp_path / "model.zip"
    trained.run("nnUNetv2_export_model_to_zip", "-d", 501, "-o", archive, "-c", "3d_fullres", "-f", 0, *MODEL)
    other = Workspace(tmp_path / "elsewhere")
    shutil.copytree(
        trained.folder("nnUNet_raw"), Path(other.environment["nnUNet_raw"], trained.folder("nnUNet_raw").name)
    )
    other.run("nnUNetv2_install_pretrained_model_from_zip", archive)
    predict(other, tmp_path / "again")
    first, again = segmentations(predicted), segmentations(tmp_path / "again")
    assert first.keys() == again.keys()
    for name, segmentation in first.items():
        assert np.array_equal(segmentation, again[name]), name
