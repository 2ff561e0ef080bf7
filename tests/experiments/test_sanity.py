"""The small form of an experiment, and what is compared at the end."""

import json
from datetime import datetime

import pytest

from nnunet_ext.experiments import finish
from nnunet_ext.experiments.file import sweep_of
from nnunet_ext.experiments.matrix import detector_of, matrix_of
from nnunet_ext.experiments.methods import methods_of
from nnunet_ext.experiments.places import Places
from nnunet_ext.experiments.places import test_set as held_out_of
from nnunet_ext.experiments.sanity import PROBE, SANITY, miniature, short_form
from nnunet_ext.experiments.tasks import Needs
from tests.experiments import space
from tests.trainers.workspace import DATASET


def sweep_for(**keys):
    given = {"dataset": 999, "trainers": ["UNet3D", "nnUNetTrainer"], "words": ["XS"], "seeds": [1, 2], "folds": [1]}
    return sweep_of({**given, "device": "cpu", **keys})


def chosen_of(sweep):
    return methods_of(sweep, lambda _: False).chosen


def places_in(folder):
    return Places.of(folder, json.loads((folder / "nnUNetPlans.json").read_text()))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    return space.write(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("trainer", "words", "short"),
    [
        ("UNet3D", ["XS"], "UNet3D_XS_NoMirror_1epochs_iter2"),
        ("UNet3D", ["NoAug", "250epochs", "iter9"], "UNet3D_NoAug_1epochs_iter2"),
        ("UNet3D", ["Warmup20", "Freeze5", "Stop50", "ValEvery7"], "UNet3D_NoMirror_1epochs_iter2"),
        ("UNet3D", ["Freeze5", "Unfreeze2", "EncoderRate2en1"], "UNet3D_NoMirror_EncoderRate2en1_1epochs_iter2"),
        ("UNETR", ["Adam", "Clip1", "CoordConv", "BF16"], "UNETR_CoordConv_Adam_Clip1_BF16_NoMirror_1epochs_iter2"),
        ("ROIUNet3D", ["Tiny"], "ROIUNet3D_Tiny_NoMirror_1epochs_iter2"),
    ],
)
def test_short_forms_keep_what_a_short_training_can_have(trainer, words, short):
    sweep = sweep_for(trainers=[trainer], words=words, configuration="3d_roi")
    (method,) = chosen_of(sweep)
    assert short_form(method, SANITY).short == short
    assert short_form(method, PROBE).parsed.recipe.epochs == 2


def test_trainers_without_words_have_no_short_form():
    (method,) = chosen_of(sweep_for(trainers=["nnUNetTrainer"], words=None))
    assert short_form(method, SANITY) is None


def small(folder, sweep, **keys):
    places = places_in(folder)
    rows = [*chosen_of(sweep), *([detector_of(sweep)] if sweep.cascade else [])]
    needs = {method.trainer: Needs(2, 0, 7) for method in rows}
    held_out = held_out_of(sweep, places, any(row.case_level for row in rows))
    arguments = sweep, chosen_of(sweep), places, 999, held_out, needs, {"A": "1"}
    return miniature(*arguments, **keys)


def test_nothing_of_it_touches_nnunets_folders(folder, tmp_path):
    def contents():
        return {path: path.read_bytes() if path.is_file() else None for path in tmp_path.rglob("*")}

    before = contents()
    with small(folder, sweep_for(cascade=True)) as found:
        for task in found.matrix.tasks:
            assert tmp_path not in task.folder.parents
            variables = task.environment
            assert str(tmp_path) not in variables["nnUNet_results"] + variables["nnUNet_preprocessed"]
            assert variables["A"] == "1"
        root = found.places.results.parents[1]
    assert contents() == before
    assert not root.exists()


def test_it_has_three_cases_of_the_fold_and_one_image(folder):
    with small(folder, sweep_for()) as found:
        splits = json.loads((found.places.preprocessed / "splits_final.json").read_text())
        assert splits == [{"train": space.SPLITS[1]["train"][:2], "val": space.SPLITS[1]["val"][:1]}]
        data = found.places.preprocessed / "tiny_3d_fullres"
        assert (data / "case0.b2nd").resolve() == (folder / "tiny_3d_fullres" / "case0.b2nd").resolve()
        images = sorted(found.matrix.test.images.iterdir())
        assert [path.name for path in images] == [f"held0_{channel:04d}.nii.gz" for channel in range(4)]
        kinds = [(task.kind, task.command[3] if task.kind == "train" else "0") for task in found.matrix.tasks]
        assert kinds == [("train", "0"), ("predict", "0")]
        assert found.matrix.tasks[0].needs == Needs(2, 0, 7)
        assert [method.trainer for method in found.left_out] == ["nnUNetTrainer"]
        (same,) = found.methods.values()
        assert [method.trainer for method in same] == ["nnUNetTrainer_UNet3D_XS"]


def test_case_level_targets_are_tried_with_all_training_cases(folder):
    with small(folder, sweep_for(trainers=["CaseUNETR"])) as found:
        splits = json.loads((found.places.preprocessed / "splits_final.json").read_text())
        assert splits == [{"train": space.SPLITS[1]["train"], "val": space.SPLITS[1]["val"][:1]}]
        assert [task.command[0] for task in found.matrix.tasks] == ["nnUNetv2_train", "nnunet_ext"]


def test_trainings_that_differ_in_their_length_alone_are_tried_once(folder):
    sweep = sweep_for(trainers=["UNet3D_2epochs", "UNet3D_9epochs_Stop3"])
    with small(folder, sweep) as found:
        assert len(found.matrix.of("train")) == 1
        (same,) = found.methods.values()
        assert list(same) == list(chosen_of(sweep))


def test_a_case_of_the_dataset_is_predicted_where_nothing_is_held_out(tmp_path, monkeypatch):
    folder = space.write(tmp_path, monkeypatch, held_out=0, splits=False)
    images = tmp_path / "raw" / DATASET / "imagesTr"
    images.mkdir()
    with small(folder, sweep_for()) as found:
        assert [task.kind for task in found.matrix.tasks] == ["train"], "no image of the case is there"
    for channel in range(4):
        (images / f"case2_{channel:04d}.nii.gz").touch()
    with small(folder, sweep_for()) as found:
        assert [task.kind for task in found.matrix.tasks] == ["train", "predict"]
        assert found.places.splits == [{"train": ["case0", "case1"], "val": ["case2"]}]


def test_the_cascade_is_tried_with_a_short_detector(folder):
    with small(folder, sweep_for(cascade={"detector": "ROIUNet3D_Tiny_50epochs_seed3"})) as found:
        (cascade,) = found.matrix.of("cascade")
        detector = "nnUNetTrainer_ROIUNet3D_Tiny_NoMirror_1epochs_iter2"
        assert cascade.command[cascade.command.index("-roi_tr") + 1] == detector
        assert f"train-{detector}-3d_roi-f0" in cascade.after
        assert [method.short for method in found.methods[detector]] == ["ROIUNet3D_Tiny_50epochs_seed3"]


# --- the end


def matrix(folder, sweep):
    return matrix_of(sweep, chosen_of(sweep), places_in(folder), 999, {}, {})


def test_the_report_has_its_date_and_time():
    now = datetime(2026, 3, 4, 5, 6, 7)
    assert str(finish.report_folder(sweep_for(out="a/b"), now)) == "a/b/integrated_experiment_results_20260304_050607"


def test_the_comparison_is_of_the_methods_without_the_detector(folder, tmp_path):
    sweep = sweep_for(cascade=True, cost=False, report=False, reference="UNet3D_XS")
    words = finish.compare_command(sweep, matrix(folder, sweep), tmp_path / "out", 3)
    folders = [word for word in words if word.endswith("fold_1")]
    assert len(folders) == 3
    assert not [word for word in folders if "ROI" in word]
    options = ["-o", str(tmp_path / "out"), "--jobs", "3", "--reference", "UNet3D_XS", "--no-cost", "--no-report"]
    assert words == ["nnunet_ext", "compare", *folders, *options]


def test_held_out_predictions_are_runs_with_as_many_seeds_each(folder):
    sweep = sweep_for(trainers=["UNet3D", "UNETR"], cascade=True)
    found = matrix(folder, sweep)
    done = [
        task
        for task in found.of("predict", "cascade")
        if task.name != "cascade-nnUNetTrainer_UNETR_XS_seed1-3d_fullres"
    ]
    runs = finish.test_runs(done, places_in(folder), dict(found.method_of))
    told = [(run.method, run.seed, run.fold) for run in runs]
    methods = ["UNet3D_XS window", "UNet3D_XS cascade", "UNETR_XS window", "UNETR_XS cascade"]
    assert told == [(method, 2 if method == "UNETR_XS cascade" else 1, "test") for method in methods]
    windows = finish.test_runs(found.of("predict"), places_in(folder), dict(found.method_of))
    assert [(run.method, run.seed) for run in windows] == [(m, s) for m in ("UNet3D_XS", "UNETR_XS") for s in (1, 2)]
