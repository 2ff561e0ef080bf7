"""The matrix as stock commands, and what is refused before anything starts."""

import json
import shlex
from itertools import product

import pytest

from nnunet_ext.experiments import places as places_module
from nnunet_ext.experiments.file import sweep_of
from nnunet_ext.experiments.matrix import matrix_of
from nnunet_ext.experiments.methods import methods_of
from nnunet_ext.experiments.places import Places, check_data
from nnunet_ext.experiments.places import test_set as held_out_of
from nnunet_ext.experiments.tasks import Needs
from tests.experiments import space
from tests.trainers.workspace import DATASET


def sweep_for(**keys):
    given = {"dataset": 999, "trainers": ["UNet3D", "UNETR"], "words": ["XS"], "seeds": [1, 2], "folds": [0, 1]}
    return sweep_of({**given, "device": "cpu", **keys})


def places_in(folder):
    return Places.of(folder, json.loads((folder / "nnUNetPlans.json").read_text()))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    return space.write(tmp_path, monkeypatch)


def matrix(folder, needs=None, **keys):
    sweep = sweep_for(**keys)
    chosen = methods_of(sweep, lambda _: False).chosen
    return matrix_of(sweep, chosen, places_in(folder), 999, needs or {}, {"A": "1"})


def test_every_training_is_the_stock_command(folder, tmp_path):
    tasks = matrix(folder).of("train")
    expected = [
        f"nnUNetv2_train 999 3d_fullres {fold} -tr nnUNetTrainer_{network}_XS_seed{seed} -p nnUNetPlans -device cpu"
        for network, seed, fold in product(("UNet3D", "UNETR"), (1, 2), (0, 1))
    ]
    assert [shlex.join(task.command) for task in tasks] == expected
    assert all(task.goes_on == (*task.command, "--c") for task in tasks)
    model = "nnUNetTrainer_UNETR_XS_seed2__nnUNetPlans__3d_fullres"
    assert tasks[-1].folder == tmp_path / "results" / DATASET / model / "fold_1"
    assert {str(task.environment) for task in tasks} == {"{'A': '1'}"}


def test_names_are_unique_and_fit_for_files(folder):
    names = [task.name for task in matrix(folder, cascade=True).tasks]
    assert len(set(names)) == len(names) == 8 + 2 + 4 + 4
    assert not [name for name in names if set(name) & set("/ :")]


def test_held_out_images_are_predicted_after_their_folds(folder, tmp_path):
    found = matrix(folder)
    predictions = found.of("predict")
    assert len(predictions) == 4
    first = predictions[0]
    images, trainer = tmp_path / "raw" / DATASET / "imagesTs", "nnUNetTrainer_UNet3D_XS_seed1"
    out = tmp_path / "results" / DATASET / f"{trainer}__nnUNetPlans__3d_fullres" / "test_imagesTs_folds_0_1"
    assert shlex.join(first.command) == (
        f"nnUNetv2_predict -i {images} -o {out} -d 999 -tr {trainer} -p nnUNetPlans -c 3d_fullres -f 0 1 -device cpu "
        "-npp 1 -nps 1"
    )
    assert first.goes_on == (*first.command, "--continue_prediction")
    assert first.folder == out
    assert first.after == tuple(
        task.name for task in found.of("train") if "_seed1-" in task.name and "UNet3D" in task.name
    )
    assert {found.method_of[task.name] for task in found.tasks} == {"nnUNetTrainer_UNet3D_XS", "nnUNetTrainer_UNETR_XS"}


def test_case_level_targets_of_held_out_images_are_predicted_by_their_command(folder, tmp_path):
    table = folder / "targets.csv"
    table.write_text("case,grade\n")
    found = matrix(folder, trainers=["CaseUNETR"], probabilities=True)
    first = found.of("predict")[0]
    trainer = "nnUNetTrainer_CaseUNETR_XS_seed1"
    out = tmp_path / "results" / DATASET / f"{trainer}__nnUNetPlans__3d_fullres" / "test_imagesTs_folds_0_1"
    assert shlex.join(first.command) == (
        f"nnunet_ext predict-cases -i {tmp_path / 'raw' / DATASET / 'imagesTs'} -o {out} -d 999 -tr {trainer} "
        f"-p nnUNetPlans -c 3d_fullres -f 0 1 -device cpu --targets {table}"
    )
    assert first.goes_on == first.command
    assert first.folder == out
    assert first.case_level
    assert len(first.after) == 2
    assert not any("--npz" in task.command for task in found.tasks)
    plain = matrix(folder, trainers=["CaseUNETR"], mirroring=False).of("predict")[0]
    assert plain.command[-1] == "--disable_tta"
    assert plain.folder != out
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a_0000.nii.gz").touch()
    elsewhere = matrix(folder, trainers=["CaseUNETR"], test=str(tmp_path / "elsewhere")).of("predict")[0]
    assert "--targets" not in elsewhere.command, "the dataset's table has no row of these"
    other = tmp_path / "truth.csv"
    other.write_text("case,grade\n")
    assert str(other) in matrix(folder, trainers=["CaseUNETR"], test_labels=str(other)).of("predict")[0].command
    with pytest.raises(ValueError, match=r"There is no table .*labelsTs"):
        matrix(folder, trainers=["CaseUNETR"], test_labels=str(tmp_path / "raw" / DATASET / "labelsTs"))


def test_the_cascade_needs_its_detector_and_has_its_settings(folder):
    settings = {"crop_size": [96, 96, 64], "merge": "gaussian"}
    found = matrix(folder, cascade={"detector": "ROIUNet3D_Tiny_seed5", "settings": settings}, seeds=[1])
    detector = [task.name for task in found.of("train") if "ROI" in task.name]
    assert [task.command[1:4] for task in found.of("train") if task.name in detector] == [
        ("999", "3d_roi", "0"),
        ("999", "3d_roi", "1"),
    ]
    (first, _) = found.of("cascade")
    assert set(detector) < set(first.after)
    assert shlex.join(first.command).endswith(
        "-roi_tr nnUNetTrainer_ROIUNet3D_Tiny_seed5 -roi_p nnUNetPlans -roi_c 3d_roi -roi_f 0 1 --crop_size 96 96 64 "
        "--merge gaussian"
    )
    other = matrix(folder, cascade={"detector": "ROIUNet3D_Tiny_seed5", "settings": {}}, seeds=[1]).of("cascade")[0]
    assert other.folder != first.folder, "predictions with other settings are others"


def test_options_reach_the_commands(folder):
    found = matrix(folder, probabilities=True, mirroring=False)
    assert all("--npz" in task.command for task in found.of("train"))
    assert all({"--save_probabilities", "--disable_tta"} < set(task.command) for task in found.of("predict"))


def test_needs_are_those_of_the_trainer(folder):
    needs = {"nnUNetTrainer_UNet3D_XS": Needs(2, 0.5, 100), "nnUNetTrainer_UNETR_XS": Needs(3, 1, 200)}
    found = matrix(folder, needs)
    assert {(found.method_of[task.name], task.needs) for task in found.tasks} == set(needs.items())


def test_without_held_out_images_nothing_is_predicted(tmp_path, monkeypatch):
    folder = space.write(tmp_path, monkeypatch, held_out=0)
    assert {task.kind for task in matrix(folder).tasks} == {"train"}
    with pytest.raises(ValueError, match="cascade predicts held-out images, and there are none"):
        matrix(folder, cascade=True)
    with pytest.raises(ValueError, match="does not exist or holds no image"):
        matrix(folder, test="imagesTs")


def test_another_folder_of_images_has_its_own_predictions(folder, tmp_path):
    images = tmp_path / "elsewhere" / "imagesTs"
    images.mkdir(parents=True)
    (images / "a_0000.nii.gz").touch()
    own, other = (
        held_out_of(sweep_for(), places_in(folder), False),
        held_out_of(sweep_for(test=str(images)), places_in(folder), False),
    )
    assert own.tag == "imagesTs"
    assert other.tag.startswith("imagesTs-")
    assert other.labels is None
    assert own.labels.name == "labelsTs"
    assert held_out_of(sweep_for(test="none"), places_in(folder), False) is None


def test_a_detector_must_be_one(folder):
    with pytest.raises(ValueError, match="'UNet3D' is no detector"):
        matrix(folder, cascade={"detector": "UNet3D"})


# --- what lies ready


def test_configurations_inherit_as_in_nnunet(folder):
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    found = places_in(folder)
    manager = PlansManager(dict(found.plans))
    for name in found.plans["configurations"]:
        own = found.configuration(name)
        own.pop("inherits_from", None)
        theirs = dict(manager.get_configuration(name).configuration)
        theirs.pop("inherits_from", None)
        assert own == theirs
    with pytest.raises(ValueError, match="no configuration '3d_fulres'; nearest: 3d_fullres"):
        found.configuration("3d_fulres")


@pytest.mark.parametrize(("fold", "told"), [(2, "no fold 2: .* has 2, from 0 to 1"), (7, "random split")])
def test_a_fold_that_the_splits_lack_is_refused(folder, fold, told):
    with pytest.raises(ValueError, match=told):
        check_data(places_in(folder), "3d_fullres", [fold], 999, "nnUNetPlans")


def test_missing_preprocessing_is_refused_with_its_command(folder):
    check_data(places_in(folder), "3d_fullres", [0, 1, "all"], 999, "nnUNetPlans")
    data = folder / "tiny_3d_fullres"
    (data / "case5.b2nd").unlink()
    with pytest.raises(
        ValueError, match=r"Fold 0 needs 1 cases .*\(case5 .*nnUNetv2_preprocess -d 999 -plans_name nnUNetPlans -c"
    ):
        check_data(places_in(folder), "3d_fullres", [0, 1], 999, "nnUNetPlans")
    for path in data.glob("*"):
        path.unlink()
    with pytest.raises(ValueError, match="holds no preprocessed cases"):
        check_data(places_in(folder), "3d_fullres", ["all"], 999, "nnUNetPlans")


def test_before_there_are_splits_nnunets_five_folds_can_be_asked_for(tmp_path, monkeypatch):
    folder = space.write(tmp_path, monkeypatch, splits=False)
    check_data(places_in(folder), "3d_fullres", [0, 4], 999, "nnUNetPlans")
    with pytest.raises(ValueError, match="no fold 5: nnU-Net will make 5"):
        check_data(places_in(folder), "3d_fullres", [5], 999, "nnUNetPlans")


def test_a_case_whose_name_ends_like_a_segmentation_is_a_case(folder):
    data = folder / "tiny_3d_fullres"
    for name in ("x_seg.b2nd", "x_seg_seg.b2nd"):
        (data / name).touch()
    assert places_module._cases(data) == {*space.CASES, "x_seg"}
