import gzip
import os
import subprocess
import sys
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from nnunet_ext.experiments import state as states
from nnunet_ext.experiments import tasks as task_files
from nnunet_ext.experiments.outcome import Outcome, outcome_of
from nnunet_ext.experiments.settings import settings_of
from nnunet_ext.experiments.state import State, alone, is_locked, on_disk, put_aside, state_of
from nnunet_ext.experiments.tasks import Needs, Task, task_of
from nnunet_ext.trainers import checkpoints
from tests.experiments.fake_training import save
from tests.experiments.fakes import fake, quick


def test_names_of_checkpoints_are_the_trainers():
    assert (states.LATEST, states.PREVIOUS, states.BEST) == (checkpoints.LATEST, checkpoints.PREVIOUS, checkpoints.BEST)
    assert states.FINAL == checkpoints.FINAL


@pytest.mark.parametrize(
    ("names", "summary", "expected"),
    [
        ((), False, State.NEW),
        ((), True, State.NEW),
        (("checkpoint_best.pth",), False, State.INTERRUPTED),
        (("checkpoint_latest.pth", "checkpoint_best.pth"), False, State.INTERRUPTED),
        (("checkpoint_final.pth",), False, State.INTERRUPTED),
        (("checkpoint_latest.pth",), True, State.INTERRUPTED),
        (("checkpoint_previous.pth",), False, State.NEW),  # nnUNetv2_train --c does not look for it
        (("checkpoint_final.pth", "checkpoint_best.pth"), True, State.FINISHED),
    ],
)
def test_a_training_is_what_lies_in_its_folder(tmp_path, names, summary, expected):
    task = fake(tmp_path)
    (task.folder / "validation").mkdir(parents=True)
    for name in names:
        save(task.folder, name, {})
    if summary:
        (task.folder / "validation" / "summary.json").write_text("{}")
    assert on_disk(task) is state_of(task) is expected


def test_a_cut_checkpoint_counts_for_nothing_and_is_put_aside(tmp_path):
    task = fake(tmp_path)
    task.folder.mkdir(parents=True)
    save(task.folder, "checkpoint_best.pth", {})
    cut = task.folder / "checkpoint_latest.pth"
    cut.write_bytes((task.folder / "checkpoint_best.pth").read_bytes()[:-5])
    assert put_aside(task) == ["checkpoint_latest.pth"]
    assert sorted(path.name for path in task.folder.iterdir()) == [
        "checkpoint_best.pth",
        "checkpoint_latest.pth.broken",
    ]
    assert on_disk(task) is State.INTERRUPTED


def test_where_our_trainers_left_the_one_before_a_cut_checkpoint_stays(tmp_path):
    """They read the one before; without the name of the latest they would take the best, which is older."""
    task = fake(tmp_path)
    task.folder.mkdir(parents=True)
    for name in ("checkpoint_previous.pth", "checkpoint_best.pth"):
        save(task.folder, name, {})
    (task.folder / "checkpoint_latest.pth").write_bytes(b"PK")
    assert put_aside(task) == []
    assert on_disk(task) is State.INTERRUPTED
    (task.folder / "checkpoint_best.pth").unlink()
    assert on_disk(task) is State.INTERRUPTED, "the latest that was cut has --c find the one before"


def test_the_summary_of_an_earlier_training_does_not_finish_a_new_one(tmp_path):
    task = fake(tmp_path)
    (task.folder / "validation").mkdir(parents=True)
    (task.folder / "validation" / "summary.json").write_text("{}")
    assert put_aside(task) == ["summary.json"]
    save(task.folder, "checkpoint_final.pth", {})
    assert on_disk(task) is State.INTERRUPTED
    assert put_aside(task) == []


@pytest.fixture
def prediction(tmp_path):
    images, folder = tmp_path / "imagesTs", tmp_path / "model" / "test_imagesTs"
    images.mkdir()
    folder.mkdir(parents=True)
    (tmp_path / "model" / "dataset.json").write_text('{"file_ending": ".nii.gz"}')
    for case in ("a", "b"):
        for channel in range(2):
            (images / f"{case}_{channel:04d}.nii.gz").touch()
    words = ("nnUNetv2_predict", "-i", str(images), "-o", str(folder))
    return Task("predict", "predict", words, words, folder)


def segmentation(path):
    nib.save(nib.Nifti1Image(np.arange(64, dtype=np.uint8).reshape(4, 4, 4), np.eye(4)), path)


def test_a_prediction_is_finished_when_all_cases_are_whole(prediction):
    assert on_disk(prediction) is State.NEW
    segmentation(prediction.folder / "a.nii.gz")
    (prediction.folder / "predict_from_raw_data_args.json").write_text("{}")
    assert on_disk(prediction) is State.INTERRUPTED
    segmentation(prediction.folder / "b.nii.gz")
    assert on_disk(prediction) is state_of(prediction) is State.FINISHED
    cut = prediction.folder / "b.nii.gz"
    cut.write_bytes(gzip.compress(gzip.decompress(cut.read_bytes())[:-9]))
    assert on_disk(prediction) is State.INTERRUPTED
    assert put_aside(prediction) == ["b.nii.gz"]
    assert not cut.exists()


CASES = "nnUNetTrainer_CaseUNETR_XS__nnUNetPlans__3d_fullres"


def test_a_case_level_training_is_finished_with_its_table(tmp_path):
    task = fake(tmp_path, CASES)
    (task.folder / "validation").mkdir(parents=True)
    save(task.folder, "checkpoint_final.pth", {})
    (task.folder / "validation" / "summary.json").write_text("{}")
    assert on_disk(task) is State.INTERRUPTED
    table = task.folder / "validation" / "case_metrics.csv"
    table.write_text("case\n")
    assert on_disk(task) is State.FINISHED
    (task.folder / "checkpoint_final.pth").unlink()
    assert put_aside(task) == ["case_metrics.csv"]
    assert not table.exists()


def test_a_case_level_prediction_is_finished_when_its_table_has_all_cases(tmp_path, prediction):
    words, folder = prediction.command, tmp_path / "model" / CASES / "test_imagesTs"
    task = Task("predict", "predict", words, words, folder)
    folder.mkdir(parents=True)
    assert on_disk(task) is State.NEW
    (folder / "case_metrics.csv").write_text('case,column\na,grade\na,"days, or so"\n')
    assert on_disk(task) is State.INTERRUPTED
    assert states.predicted(task) == (1, 2)
    assert put_aside(task) == []
    (folder / "case_metrics.csv").write_text("case,column\na,grade\nb,grade\nc,grade\n")
    assert on_disk(task) is state_of(task) is State.FINISHED


@pytest.fixture
def of_two_folds(prediction):
    """That prediction, by two folds of its model, and finished."""
    words = (*prediction.command, "-f", "0", "1", "-device", "cpu")
    for fold in (0, 1):
        (prediction.folder.parent / f"fold_{fold}").mkdir()
        save(prediction.folder.parent / f"fold_{fold}", "checkpoint_final.pth", {})
    for case in "ab":
        segmentation(prediction.folder / f"{case}.nii.gz")
    return replace(prediction, command=words, goes_on=words)


def test_a_prediction_of_weights_that_are_there_no_more_is_made_anew(of_two_folds):
    assert on_disk(of_two_folds) is State.FINISHED
    model = of_two_folds.folder.parent / "fold_1" / "checkpoint_final.pth"
    later = model.stat().st_mtime + 60
    os.utime(model, (later, later))
    os.utime(of_two_folds.folder / "b.nii.gz", (later + 1, later + 1))
    assert on_disk(of_two_folds) is State.INTERRUPTED
    assert put_aside(of_two_folds) == ["a.nii.gz"]
    assert (of_two_folds.folder / "a.nii.gz.earlier").is_file()
    model.unlink()
    assert on_disk(of_two_folds) is state_of(of_two_folds) is State.NEW


def test_a_prediction_without_the_probabilities_that_are_wanted_is_made_anew(of_two_folds):
    wanted = replace(of_two_folds, command=(*of_two_folds.command, "--save_probabilities"))
    assert on_disk(wanted) is State.NEW
    (wanted.folder / "a.npz").touch()
    assert on_disk(wanted) is State.INTERRUPTED
    assert put_aside(wanted) == ["b.nii.gz"]


def test_a_table_of_weights_that_are_there_no_more_counts_for_nothing(tmp_path, prediction):
    words = (*prediction.command, "-f", "0", "-device", "cpu")
    task = Task("predict", "predict", words, words, tmp_path / "model" / CASES / "test_imagesTs")
    (task.folder.parent / "fold_0").mkdir(parents=True)
    save(task.folder.parent / "fold_0", "checkpoint_final.pth", {})
    task.folder.mkdir()
    (task.folder / "case_metrics.csv").write_text("case,column\na,grade\nb,grade\n")
    assert on_disk(task) is State.FINISHED
    (task.folder.parent / "fold_0" / "checkpoint_final.pth").unlink()
    assert on_disk(task) is State.NEW


def test_a_prediction_without_input_is_refused(prediction):
    for path in (prediction.folder.parents[1] / "imagesTs").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match="holds no image"):
        on_disk(prediction)


def test_a_run_that_another_process_holds_is_running(tmp_path):
    task = fake(tmp_path)
    code = (
        "import sys\nfrom filelock import FileLock\n"
        "lock = FileLock(sys.argv[1])\nlock.acquire()\nprint('held', flush=True)\nsys.stdin.read()"
    )
    assert state_of(task) is State.NEW
    assert not task.folder.parent.exists(), "looking made a folder"
    with alone(task) as mine:
        assert mine
    words = [sys.executable, "-c", code, str(states.lock_file(task))]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        assert state_of(task) is State.RUNNING
        with alone(task) as mine:
            assert not mine
        holder.kill()
        holder.wait()
    assert not is_locked(task)


def test_tasks_settings_and_outcomes_travel_as_json(tmp_path):
    task = fake(tmp_path, "a", "--epochs", 2, after=("b",), needs=Needs(2, 0.5, 100))
    assert task_of(task.as_dict()) == task
    task_files.write([task], tmp_path / "tasks.json")
    assert task_files.read(tmp_path / "tasks.json") == [task]
    assert settings_of(quick(tmp_path, jobs=2).as_dict()) == quick(tmp_path, jobs=2)
    outcome = Outcome("a", 3, 1, ("x",), 0.5, "y", "z")
    assert outcome_of(outcome.as_dict()) == outcome


@pytest.mark.parametrize("text", ["", "[1]", '[{"name": "a"}]'])
def test_another_file_is_no_list_of_tasks(tmp_path, text):
    (tmp_path / "tasks.json").write_text(text)
    with pytest.raises(ValueError, match="name the folder of a sweep"):
        task_files.read(tmp_path / "tasks.json")
