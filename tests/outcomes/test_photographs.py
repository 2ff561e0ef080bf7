"""The whole way of plain images: generated, made a dataset, trained on, and others predicted from their files."""

import json

import numpy as np
import pytest
from nnunetv2.experiment_planning.plan_and_preprocess_api import plan_experiments
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.run.run_training import run_training
from nnunetv2.training.logging.nnunet_logger import LocalLogger
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from PIL import Image

from dataset_conversion.commands.phantom_images import main as phantom_images
from nnunet_ext.cli import main
from nnunet_ext.discovery import hook_folder
from nnunet_ext.outcomes import results
from tests.outcomes.conftest import CPU

TRAINER = "nnUNetTrainer_CaseResNet18_NoAug_1epochs_iter2_seed1"
SETS = {
    # kind: options of the generator, options of targets, files of a case
    "defects": (["--images", "12"], ["--levels", "ok", "defect"], 1),
    "pairs": (["--patients", "5", "--pairs", "2", "--test", "1"], [], 2),
}


def preprocess(root, name):
    """What nnUNetv2_plan_and_preprocess -c 2d does, without its processes."""
    raw, folder = root / "raw" / name, root / "preprocessed" / name
    dataset = json.loads((raw / "dataset.json").read_text())
    cases = dataset["numTraining"]
    intensities = {str(i): {} for i in range(len(dataset["channel_names"]))}
    fingerprint = {
        "spacings": [[999, 1, 1]] * cases,
        "shapes_after_crop": [[1, 32, 32]] * cases,
        "foreground_intensity_properties_per_channel": intensities,
        "median_relative_size_after_cropping": 1,
    }
    (folder / "dataset_fingerprint.json").write_text(json.dumps(fingerprint))
    plan_experiments([603])
    plans = PlansManager(str(folder / "nnUNetPlans.json"))
    planned = plans.get_configuration("2d")
    (folder / planned.data_identifier).mkdir()
    for label in (raw / "labelsTr").iterdir():
        files = [str(path) for path in sorted((raw / "imagesTr").glob(f"{label.stem}_0*.png"))]
        out = str(folder / planned.data_identifier / label.stem)
        DefaultPreprocessor(verbose=False).run_case_save(out, files, str(label), plans, planned, dataset)


@pytest.mark.parametrize("kind", SETS)
def test_from_photographs_to_predictions(kind, tmp_path, monkeypatch, capsys):
    generate, made, images = SETS[kind]
    for variable in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{variable}", str(tmp_path / variable))
    monkeypatch.setenv("nnUNet_extTrainer", str(hook_folder()))
    monkeypatch.setenv("nnUNet_def_n_proc", "1")
    monkeypatch.setattr(LocalLogger, "plot_progress_png", lambda *_: None)
    (tmp_path / "results").mkdir()
    source = tmp_path / "source"
    assert phantom_images([kind, str(source), "--size", "32", *generate]) == 0
    assert main(["targets", "-d", "603", "--images", str(source), "--name", "X", "--folds", "2", *made]) == 0
    preprocess(tmp_path, "Dataset603_X")
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")  # with which nnU-Net does not plan
    run_training("Dataset603_X", "2d", 0, TRAINER, device=CPU)

    flat = source / "ok" if kind == "defects" else source
    assert main(["targets", "-d", "603", "--images", str(flat), "--input", str(tmp_path / "input")]) == 0
    truth = str(tmp_path / "raw" / "Dataset603_X" / "targets.csv")
    words = {"-i": tmp_path / "input", "-o": tmp_path / "out", "-d": 603, "-tr": TRAINER, "-c": "2d", "-f": 0}
    command = ["predict-cases", *(str(word) for pair in words.items() for word in pair), "-device", "cpu"]
    assert main([*command, "--targets", truth] if kind == "pairs" else command) == 0
    found = results.read(tmp_path / "out").table
    assert len(found) == len(list((tmp_path / "input").iterdir())) / images
    numbers = found["p_defect"] if kind == "defects" else found["prediction"].astype(float)
    assert np.isfinite(numbers).all()

    some = next((tmp_path / "input").iterdir())
    for file in (tmp_path / "input").glob(f"{some.stem[:-5]}_*.png"):  # of another kind than the model reads
        Image.open(file).convert("L").save(file)
    assert main(command) == 1
    assert f"it has {images} channels, not {3 * images}" in capsys.readouterr().err
