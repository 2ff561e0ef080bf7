"""kill -9 at chosen moments, then the same command with --c: everything as if nothing had happened."""

import signal

import pytest
import torch

from benchmarks.interruptions.fingerprint import fingerprint
from benchmarks.interruptions.moments import at, removing, renaming, writing
from benchmarks.interruptions.runs import Training
from nnunet_ext.trainers.checkpoints import ALL, BEST, FINAL, LATEST, PREVIOUS
from nnunet_ext.trainers.reading import read_safely

NAME = "nnUNetTrainer_DualBranchGhost_XS_2epochs_iter3_seed7"
EACH_STEP = {"save_steps": 1, "save_every": 1}
EACH_EPOCH = {"save_every": 1}


@pytest.fixture(scope="module")
def whole(tiny_dataset, tmp_path_factory):
    """The training that nobody interrupts, with two workers."""
    training = Training(tiny_dataset, tmp_path_factory.mktemp("whole"), NAME, EACH_EPOCH)
    assert training.run(workers=2) == 0, training.outputs()
    return training.folder


def same(folder, whole):
    for name in (FINAL, BEST):
        assert fingerprint(folder / name) == fingerprint(whole / name), name
    assert not [name for name in (LATEST, PREVIOUS) if (folder / name).exists()]


# where it is killed, with how many workers, and how often it is saved; then it goes on with other workers
MOMENTS = {
    "before any checkpoint": ([(at("train_step", 2), 0)], EACH_EPOCH, 1),
    "step of the first epoch": ([(at("train_step", 3), 1)], EACH_STEP, 0),
    "step of the second epoch": ([(at("train_step", 5), 0)], EACH_EPOCH, 2),
    "first validation": ([(at("validation_step"), 0)], EACH_STEP, 0),
    "second validation": ([(at("validation_step", 2), 1)], EACH_EPOCH, 0),
    "end of an epoch": ([(at("on_epoch_end"), 0)], EACH_STEP, 0),
    "writing the latest": ([(writing(LATEST, 2), 0)], EACH_STEP, 0),
    "writing the best": ([(writing(BEST), 0)], EACH_EPOCH, 0),
    "renaming the latest": ([(renaming(LATEST, 3), 0)], EACH_STEP, 0),
    "writing the final": ([(writing(FINAL), 0)], EACH_EPOCH, 0),
    "removing the latest": ([(removing(LATEST), 0)], EACH_EPOCH, 0),
    "three times in one epoch": (
        [*[(at("train_step", 2), n) for n in (3, 0)], (at("validation_step"), 1)],
        EACH_STEP,
        0,
    ),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_and_continued_is_never_killed(whole, tiny_dataset, tmp_path, moment):
    kills, settings, workers = MOMENTS[moment]
    training = Training(tiny_dataset, tmp_path, NAME, settings)
    for number, (change, before) in enumerate(kills):
        assert training.run(before, goes_on=number > 0, change=change) == -signal.SIGKILL, training.outputs()
    assert training.run(workers, goes_on=True) == 0, training.outputs()
    same(training.folder, whole)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_the_number_of_workers_does_not_matter(whole, tiny_dataset, tmp_path, workers):
    training = Training(tiny_dataset, tmp_path, NAME)
    assert training.run(workers) == 0, training.outputs()
    same(training.folder, whole)


def test_another_seed_differs(whole, tiny_dataset, tmp_path):
    training = Training(tiny_dataset, tmp_path, NAME.replace("seed7", "seed8"))
    assert training.run() == 0, training.outputs()
    mine, other = fingerprint(training.folder / FINAL), fingerprint(whole / FINAL)
    assert mine.keys() == other.keys()
    assert sum(mine[name] != other[name] for name in mine) > len(mine) // 2
    assert set(ALL) >= {FINAL}


def test_what_the_step_itself_draws_is_drawn_again(tiny_dataset, tmp_path):
    """Dropout for example; the checkpoints within the epoch are those that the trainer's name asks for."""
    name = NAME.replace("2epochs", "SaveEvery2steps_2epochs")

    def noisy(trainer):
        step = trainer.train_step
        trainer.train_step = lambda batch: step({**batch, "data": batch["data"] + 0.1 * torch.randn(())})

    def noisy_and_killed(trainer):
        noisy(trainer)
        at("train_step", 6)(trainer)

    whole, killed = (Training(tiny_dataset, tmp_path / kind, name) for kind in ("whole", "killed"))
    assert whole.run(change=noisy) == 0, whole.outputs()
    assert killed.run(change=noisy_and_killed) == -signal.SIGKILL, killed.outputs()
    saved = read_safely(killed.folder / LATEST)
    assert (saved["current_epoch"], saved["nnunet_ext"]["step"]) == (1, 1)
    assert killed.run(1, goes_on=True, change=noisy) == 0, killed.outputs()
    same(killed.folder, whole.folder)
