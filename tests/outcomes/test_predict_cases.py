"""``nnunet_ext predict-cases``: raw images to the table, with the truth where it is given."""

import math
import shutil

import nibabel as nib
import numpy as np
import pytest
import torch
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor

from nnunet_ext.cli import main
from nnunet_ext.outcomes import results as tables
from nnunet_ext.outcomes.model import load_model
from nnunet_ext.outcomes.prediction import case_outputs
from tests.outcomes.conftest import CPU, NAME, SCHEMA, TABLE, fold_of, write_targets
from tests.trainers import workspace
from tests.trainers.conftest import use


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Two cases of four channels."""
    folder = tmp_path_factory.mktemp("images")
    for i in (3, 4):
        image, _ = workspace.case(np.random.default_rng(i), workspace.FOUR)
        for channel, volume in enumerate(image):
            path = folder / f"case{i}_{channel:04d}.nii.gz"
            nib.save(nib.Nifti1Image(volume.transpose(2, 1, 0), np.eye(4)), path)
    return folder


@pytest.fixture
def model(trained, case_dataset, monkeypatch):
    use(monkeypatch, case_dataset, trained)
    return fold_of(trained).parent


def predict(images, out, *further):
    options = {
        "-i": images,
        "-o": out,
        "-d": workspace.DATASET,
        "-tr": NAME,
        "-c": "3d_fullres",
        "-f": 0,
        "-device": "cpu",
    }
    return main(["predict-cases", *(str(word) for pair in options.items() for word in pair), *further])


def test_the_table_holds_every_case_and_column_with_the_truth_that_is_known(model, images, tmp_path, capsys):
    (tmp_path / "targets.csv").write_text(TABLE)
    assert predict(images, tmp_path / "out", "--targets", str(tmp_path / "targets.csv")) == 0
    found = tables.read(tmp_path / "out")
    assert len(found.table) == 2 * 4
    assert set(found.table["fold"]) == {"test"}
    assert found.of("grade").loc["case4", "truth"] == "HGG"
    assert found.of("days").loc["case3", "censored"] == 1
    day = found.of("days").loc["case3"]
    assert 0 < day["lower"] < float(day["prediction"]) < day["upper"]
    assert math.isnan(found.of("score").loc["case3", "lower"])
    said = capsys.readouterr().out
    assert "score has no interval: these folds have no validation" in said
    assert "accuracy" in said


def test_what_is_predicted_is_what_the_network_says_of_the_preprocessed_image(model, images, tmp_path):
    assert predict(images, tmp_path / "out") == 0
    read = load_model(model, [0], "checkpoint_final.pth", CPU)
    files = [str(images / f"case4_{i:04d}.nii.gz") for i in range(4)]
    data = DefaultPreprocessor(verbose=False).run_case(files, None, read.plans, read.configuration, read.dataset_json)[
        0
    ]
    size = np.array(data.shape[1:])
    corners = [(z, y, x) for z in {0, size[0] - 16} for y in {0, size[1] - 16} for x in {0, size[2] - 16}]
    every = [data[:, z : z + 16, y : y + 16, x : x + 16] for z, y, x in corners]
    with torch.no_grad():
        outputs = torch.stack([read.networks[0](torch.tensor(p)[None])[0] for p in every]).mean(0)
    expected = read.networks[0].heads.read(outputs[None])["stage"]["probabilities"][0].tolist()
    row = tables.read(tmp_path / "out").of("stage").loc["case4"]
    np.testing.assert_allclose([row[f"p_{level}"] for level in ("I", "II", "III")], expected, rtol=1e-4)


def test_a_case_is_mirrored_as_its_training_allows_unless_that_is_switched_off(model, images, tmp_path, monkeypatch):
    """The training had no mirroring: a copy of its checkpoint says that two axes are allowed."""
    copied = tmp_path / "results" / model.parent.name / model.name
    shutil.copytree(model, copied)
    path = copied / "fold_0" / "checkpoint_final.pth"
    content = torch.load(path, weights_only=True)
    assert content["inference_allowed_mirroring_axes"] is None
    torch.save({**content, "inference_allowed_mirroring_axes": (0, 2)}, path)
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    said = {}
    for out, words in (("plain", ["--disable_tta"]), ("mirrored", [])):
        assert predict(images, tmp_path / out, *words) == 0
        said[out] = tables.read(tmp_path / out)
        assert said[out].facts["mirrored"] == (not words)
    scores = {out: float(found.of("score").loc["case4", "prediction"]) for out, found in said.items()}
    read = load_model(copied, [0], "checkpoint_final.pth", CPU)
    image = read.preprocessed(sorted(images.glob("case4_*")))
    outputs = [
        case_outputs(read.networks[0], image.flip(axes), read.configuration.patch_size, CPU, read.precision)
        for axes in ((), (1,), (3,), (1, 3))
    ]
    values = [read.networks[0].heads.read(each[None])["score"]["value"].item() for each in outputs]
    assert scores["plain"] == pytest.approx(values[0], rel=1e-5)
    assert scores["mirrored"] == pytest.approx(np.mean(values), rel=1e-5)
    assert abs(scores["mirrored"] - scores["plain"]) > 1e-4


def test_folds_are_averaged(model, images):
    one, twice = (load_model(model, folds, "checkpoint_final.pth", CPU) for folds in ([0], [0, 0]))
    with torch.no_grad():
        for parameter in twice.networks[1].heads.each[2].parameters():
            parameter.add_(0.25)
    files = sorted(images.glob("case3_*"))
    alone = load_model(model, [0], "checkpoint_final.pth", CPU)
    alone.networks[0].load_state_dict(twice.networks[1].state_dict())
    values = [m.read(files)["score"]["value"].item() for m in (one, alone, twice)]
    assert values[0] != values[1]
    assert values[2] == pytest.approx((values[0] + values[1]) / 2)


def test_a_case_that_cannot_be_read_is_told_and_the_others_are_predicted(model, images, tmp_path, capsys):
    folder = tmp_path / "images"
    folder.mkdir()
    for path in images.glob("case3_*"):
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "broken_0000.nii.gz").write_bytes(b"not an image")
    (folder / "short_0000.nii.gz").write_bytes((images / "case4_0000.nii.gz").read_bytes())
    assert predict(folder, tmp_path / "out") == 1
    said = capsys.readouterr().err
    assert "broken could not be predicted: " in said
    assert "short could not be predicted: it has 1 channels, not 4" in said
    assert set(tables.read(tmp_path / "out").table["case"]) == {"case3"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["-tr", "nnUNetTrainer_CaseUNETR"], "There is no folder"),
        (["-f", "3"], "There is no file"),
        (["-i", "nowhere"], "There is no folder nowhere"),
        (["-f", "0", "0"], "-f is 0 0; name each fold once"),
    ],
)
def test_bad_input_is_one_sentence(model, images, tmp_path, capsys, change, message):
    assert predict(images, tmp_path / "out", *change) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_segmentation_model_is_not_for_this_command(tmp_path, case_dataset, monkeypatch, images, capsys):
    use(monkeypatch, case_dataset, tmp_path)
    name = NAME.replace("Case", "")
    (tmp_path / workspace.DATASET / f"{name}__nnUNetPlans__3d_fullres").mkdir(parents=True)
    assert predict(images, tmp_path / "out", "-tr", name) == 2
    assert (
        "no trainer of case-level targets (nnUNetTrainer_Case...); segment with nnUNetv2_predict"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (TABLE.replace("case", "scan").replace("scan,", "case,"), "has a row of none of the 2 cases, such as case3"),
        (TABLE.replace("650,1", "650,yes"), "case case3, column days: its alive is 'yes', expected 1 (censored) or 0"),
        (TABLE.replace("alive", "dead"), "has no column 'alive'"),
        (TABLE.replace("650,1", "-5,1"), "the time -5 is negative"),
        (TABLE.replace("case4,HGG", "case4,hgg"), "'hgg' is no level, declared are LGG, HGG"),
    ],
)
def test_a_wrong_table_is_refused_before_anything_is_predicted(
    model, images, tmp_path, capsys, monkeypatch, table, message
):
    monkeypatch.setattr("nnunet_ext.commands.predict_cases._predict", lambda *_: pytest.fail("cases were predicted"))
    (tmp_path / "targets.csv").write_text(table)
    assert predict(images, tmp_path / "out", "--targets", str(tmp_path / "targets.csv")) == 2
    assert message in capsys.readouterr().err


def test_a_table_of_other_columns_and_cases_is_taken_for_what_it_tells(model, images, tmp_path, capsys):
    (tmp_path / "targets.csv").write_text("case,grade\ncase3,LGG\nanother,GBM\n")
    assert predict(images, tmp_path / "out", "--targets", str(tmp_path / "targets.csv")) == 0
    assert tables.read(tmp_path / "out").of("grade")["truth"].to_dict() == {"case3": "LGG", "case4": ""}
    assert "Cases with a truth:\n  grade: " in capsys.readouterr().out


def test_a_file_in_the_place_of_the_folder_is_refused_at_once(model, images, tmp_path, capsys):
    (tmp_path / "out").touch()
    assert predict(images, tmp_path / "out") == 2
    assert "is a file; name a folder with -o" in capsys.readouterr().err


def test_intervals_by_the_errors_of_another_checkpoint_are_told(model, images, tmp_path, capsys, monkeypatch):
    """Nine validation cases are made of the two that there are."""
    copied = tmp_path / "results" / model.parent.name / model.name
    shutil.copytree(model, copied)
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    monkeypatch.setattr("nnunet_ext.outcomes.model.half_width", lambda *_: 1.5)
    assert predict(images, tmp_path / "out", "-chk", "checkpoint_best.pth") == 0
    said = capsys.readouterr().out
    assert (
        "Intervals are by the errors of checkpoint_final.pth on validation cases, the predictions of checkpoint_b"
        in said
    )


def test_columns_that_tell_the_patient_go_with_the_predictions(model, case_dataset, images, tmp_path, monkeypatch):
    """Of any name: the dataset's targets.json says which they are."""
    name, table = model.parent.name, tmp_path / "targets.csv"
    folder = tmp_path / "preprocessed" / name
    shutil.copytree(case_dataset / "preprocessed" / name, folder)
    write_targets(folder, {**SCHEMA, "groups": ["clinic", "patient"]}, TABLE.replace(",patient", ",clinic"))
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    table.write_text(TABLE.replace(",patient", ",clinic"))
    assert predict(images, tmp_path / "out", "--targets", str(table)) == 0
    assert tables.read(tmp_path / "out").of("grade")["clinic"].to_dict() == {"case3": "P3", "case4": "P4"}
