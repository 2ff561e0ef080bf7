"""Signals, full disks, damaged checkpoints, orphans: what an interrupted training leaves, and how it goes on."""

import os
import pickle
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch

from benchmarks.interruptions.fingerprint import fingerprint
from benchmarks.interruptions.moments import at, signalled
from benchmarks.interruptions.runs import Training, kill
from nnunet_ext.trainers import checkpoints
from nnunet_ext.trainers.checkpoints import BEST, EARLIER, FINAL, LATEST, PARTIAL, PREVIOUS
from nnunet_ext.trainers.reading import read_safely
from nnunet_ext.trainers.signals import EXIT_CODE

NAME = "nnUNetTrainer_DualBranchGhost_XS_2epochs_iter3_seed7"
EACH_STEP = {"save_steps": 1, "save_every": 1}
FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="no device that is always full")


@pytest.fixture(scope="module")
def whole(tiny_dataset, tmp_path_factory):
    training = Training(tiny_dataset, tmp_path_factory.mktemp("whole"), NAME)
    assert training.run() == 0, training.outputs()
    return training.folder


@pytest.fixture(scope="module")
def killed(tiny_dataset, tmp_path_factory):
    """A training that was killed in its second epoch, with all its checkpoints."""
    training = Training(tiny_dataset, tmp_path_factory.mktemp("killed"), NAME, EACH_STEP)
    assert training.run(change=at("train_step", 6)) == -signal.SIGKILL, training.outputs()
    assert {path.name for path in training.folder.glob("*.pth")} == {LATEST, PREVIOUS, BEST}
    return training


@pytest.fixture
def copy(killed, tmp_path):
    """A copy of that training."""
    shutil.copytree(killed.results, tmp_path / "results")
    return Training(killed.root, tmp_path / "results", NAME, EACH_STEP)


def log_of(training):
    return "\n".join(path.read_text() for path in training.folder.glob("training_log*.txt"))


# --- signals


@pytest.mark.parametrize(
    ("hook", "count", "epoch", "step"),
    [("train_step", 2, 0, 2), ("train_step", 6, 1, 3), ("validation_step", 1, 0, 3), ("on_epoch_end", 1, 1, 0)],
)
def test_a_signal_saves_after_the_step_and_leaves_with_the_documented_code(
    whole, tiny_dataset, tmp_path, hook, count, epoch, step
):
    number = signal.SIGTERM if count % 2 else signal.SIGUSR1
    training = Training(tiny_dataset, tmp_path, NAME)
    assert training.run(change=signalled(hook, count, number)) == EXIT_CODE == 75, training.outputs()
    saved = read_safely(training.folder / LATEST)
    assert (saved["current_epoch"], saved[checkpoints.PROGRESS]["step"]) == (epoch, step)
    assert signal.Signals(number).name in log_of(training)
    assert training.run(goes_on=True) == 0, training.outputs()
    assert fingerprint(training.folder / FINAL) == fingerprint(whole / FINAL)


def test_workers_outlive_a_signal_to_all_processes_of_the_job(whole, tiny_dataset, tmp_path):
    """Slurm signals the workers too; the trainer must not miss them before it has saved."""

    def to_all(trainer):
        step = trainer.train_step

        def signal_all(batch):
            for process in trainer.dataloader_train.source._processes:
                os.kill(process.pid, signal.SIGUSR1)
                os.kill(process.pid, signal.SIGTERM)
            return step(batch)

        trainer.train_step = signal_all

    training = Training(tiny_dataset, tmp_path, NAME)
    assert training.run(workers=2, change=to_all) == 0, training.outputs()
    assert fingerprint(training.folder / FINAL) == fingerprint(whole / FINAL)


def children(pid):
    return [int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads Linux's list of children")
def test_workers_end_with_a_killed_trainer(tiny_dataset, tmp_path):
    training = Training(tiny_dataset, tmp_path, NAME.replace("2epochs", "999epochs"))
    process = training.start(workers=2)
    while (
        process.is_alive() and len(workers := lasting_children(process.pid)) < 3
    ):  # two of training, one of validation
        time.sleep(0.05)
    kill(process)
    deadline = time.monotonic() + 60
    while (left := [pid for pid in workers if Path(f"/proc/{pid}").exists() and not is_zombie(pid)]) and (
        time.monotonic() < deadline
    ):
        time.sleep(0.1)
    assert len(workers) == 3
    assert left == []


def lasting_children(pid):
    """Those that are there for half a second: at work, or waiting for room in their queues; no command in passing."""
    first = children(pid)
    time.sleep(0.5)
    return [child for child in children(pid) if child in first]


def is_zombie(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


# --- damaged checkpoints


class Hostile:
    def __reduce__(self):
        return os.mkdir, ("ran",)


def truncated(path, _whole):
    path.write_bytes(path.read_bytes()[:-1000])


def empty(path, _whole):
    path.write_bytes(b"")


def text(path, _whole):
    path.write_text("This is no checkpoint.")


def hostile(path, _whole):
    path.write_bytes(pickle.dumps({"network_weights": Hostile()}))


def hostile_archive(path, _whole):
    torch.save({**torch.load(path, weights_only=False), "extra": Hostile()}, path)


def of_another_network(path, _whole):
    content = read_safely(path)
    weights = content["network_weights"]
    name = next(iter(weights))
    torch.save({**content, "network_weights": {**weights, name: torch.zeros(3, 1)}}, path)


def of_something_else(path, _whole):
    torch.save({"state_dict": {}}, path)


DAMAGES = (truncated, empty, text, hostile, hostile_archive, of_another_network, of_something_else)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_skipped_and_the_one_before_used(whole, copy, tmp_path, monkeypatch, damage):
    monkeypatch.chdir(tmp_path)
    damage(copy.folder / LATEST, whole)
    assert copy.run(goes_on=True) == 0, copy.outputs()
    assert f"{LATEST} " in log_of(copy)
    assert "It is skipped." in log_of(copy)
    assert fingerprint(copy.folder / FINAL) == fingerprint(whole / FINAL)
    assert not Path("ran").exists()


def test_with_no_readable_checkpoint_nothing_is_trained(copy):
    for path in copy.folder.glob("*.pth"):
        truncated(path, None)
    assert copy.run(goes_on=True) == 1
    assert "can be read (the log says why); train anew without --c." in copy.outputs()
    assert not (copy.folder / FINAL).exists()


def test_the_best_checkpoint_is_never_replaced_by_a_worse_one(copy):
    best = copy.folder / BEST
    checkpoints.write({**read_safely(best), "_best_ema": 0.99}, best)
    before = best.read_bytes()
    assert copy.run(goes_on=True) == 0, copy.outputs()
    assert best.read_bytes() == before


def test_a_new_training_does_not_take_an_earlier_ones_checkpoints_for_its_own(whole, copy):
    assert copy.run(change=at("train_step", 1)) == -signal.SIGKILL
    aside = {f"{Path(name).stem}{EARLIER}.pth" for name in (LATEST, PREVIOUS, BEST)}
    assert {path.name for path in copy.folder.glob("*.pth")} == aside
    assert copy.run(goes_on=True) == 0, copy.outputs()
    assert fingerprint(copy.folder / FINAL) == fingerprint(whole / FINAL)


# --- full disks


def full(name):
    """The partial file of this name, or the file itself, lies on a full disk, until it could not be written once."""

    def change(trainer):
        Path(trainer.output_folder, name).symlink_to(FULL)

    return change


@needs_full
@pytest.mark.parametrize("name", [LATEST, BEST])
def test_on_a_full_disk_training_goes_on_says_so_and_tries_again(whole, tiny_dataset, tmp_path, name):
    training = Training(tiny_dataset, tmp_path, NAME, {"save_every": 1})
    assert training.run(change=full(name + PARTIAL)) == 0, training.outputs()
    assert f"{name} could not be written ([Errno 28] No space left on device); the training goes on" in log_of(training)
    mine, other = read_safely(training.folder / FINAL), read_safely(whole / FINAL)
    assert mine["logging"]["train_losses"] == other["logging"]["train_losses"]
    assert read_safely(training.folder / BEST)["_best_ema"] in other["logging"]["ema_fg_dice"]


@needs_full
def test_a_latest_checkpoint_that_failed_within_an_epoch_is_written_after_it(tiny_dataset, tmp_path):
    training = Training(tiny_dataset, tmp_path, NAME, {"save_steps": 2})

    def change(trainer):
        full(LATEST + PARTIAL)(trainer)
        at("train_step", 4)(trainer)

    assert training.run(change=change) == -signal.SIGKILL
    assert read_safely(training.folder / LATEST)["current_epoch"] == 1


@needs_full
def test_without_room_for_the_final_checkpoint_the_latest_stays(whole, tiny_dataset, tmp_path):
    training = Training(tiny_dataset, tmp_path, NAME, {"save_every": 1})
    assert training.run(change=full(FINAL + PARTIAL)) == 1
    assert "make room and go on with --c" in log_of(training)
    assert (training.folder / LATEST).exists()
    assert training.run(goes_on=True) == 0, training.outputs()
    assert fingerprint(training.folder / FINAL) == fingerprint(whole / FINAL)


@needs_full
def test_curves_that_cannot_be_drawn_stop_nothing(tiny_dataset, tmp_path):
    training = Training(tiny_dataset, tmp_path, NAME.replace("2epochs", "1epochs"))

    def change(trainer):
        def draw(_folder):
            FULL.write_text("curves")

        trainer.logger.plot_progress_png = draw

    assert training.run(change=change) == 0, training.outputs()
    assert "The curves could not be drawn ([Errno 28]" in log_of(training)
