"""How far a task is, told from what lies in nnU-Net's folders: there is no other record of it.

A checkpoint counts where it is whole: torch's files are zip archives whose directory is written last. Our trainers
write a checkpoint aside and rename it; nnU-Net's own trainers write in place, and a kill can cut the file.
"""

import csv
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from itertools import takewhile
from pathlib import Path

from filelock import FileLock, Timeout

from nnunet_ext.evaluation.runs import FINAL, OF_CASES, SUMMARY, VALIDATION
from nnunet_ext.experiments.tasks import Task
from nnunet_ext.images.folder import cases_of
from nnunet_ext.images.verify import check_image

LATEST, PREVIOUS, BEST = "checkpoint_latest.pth", "checkpoint_previous.pth", "checkpoint_best.pth"
CHECKPOINTS = (FINAL, LATEST, BEST)  # with which nnUNetv2_train --c goes on
BROKEN, EARLIER = ".broken", ".earlier"
KEPT, PROBABILITIES = "--save_probabilities", ".npz"


class State(Enum):
    """Of a task."""

    NEW = "not begun"
    INTERRUPTED = "interrupted"
    RUNNING = "running"
    FINISHED = "finished"


def state_of(task: Task) -> State:
    """What a reader is told: as :func:`on_disk`, and whether a process works on it. Images are not read."""
    found = on_disk(task, thoroughly=False)
    return State.RUNNING if found is not State.FINISHED and is_locked(task) else found


def on_disk(task: Task, thoroughly: bool = True) -> State:
    """What the files say.

    Args:
        task: a training is finished when its final checkpoint and the summary of its validation (of a case-level
            training its table) are there, which holds for one that was ended early too; a prediction when each case
            of its input has a segmentation, or rows in its table.
        thoroughly: whether a prediction's images are read to their ends.
    """
    if task.kind == "train":
        if whole_checkpoint(task.folder / FINAL) and written_last(task).is_file():
            return State.FINISHED
        saved = any(whole_checkpoint(task.folder / name) for name in CHECKPOINTS)
        # our trainers find the one before a latest that was cut, which --c must be pointed to
        before = (task.folder / LATEST).is_file() and whole_checkpoint(task.folder / PREVIOUS)
        return State.INTERRUPTED if saved or before else State.NEW
    there, wanted = predicted(task, thoroughly)
    if not there:
        return State.NEW
    return State.FINISHED if there == wanted else State.INTERRUPTED


def written_last(task: Task) -> Path:
    """The file that a training's final validation writes last."""
    return task.folder / VALIDATION / (OF_CASES if task.case_level else SUMMARY)


def predicted(task: Task, thoroughly: bool = False) -> tuple[int, int]:
    """How many cases of a prediction's input are done, and how many there are; ``thoroughly`` as for on_disk."""
    if task.case_level:
        wanted, table = set(_cases(task)), task.folder / OF_CASES
        told = set() if table.is_file() and is_outdated(task, table) else _in_table(table)
        return len(wanted & told), len(wanted)
    files = predictions(task)
    there = [path for path in files if path.is_file() and not is_outdated(task, path)]
    return sum(not (thoroughly and is_damaged(path)) for path in there), len(files)


def is_outdated(task: Task, path: Path) -> bool:
    """Whether a prediction is of weights that are there no more, or lacks the probabilities that are wanted now."""
    if (
        task.kind == "predict"
        and KEPT in task.command
        and not path.with_name(f"{path.name.split('.')[0]}{PROBABILITIES}").is_file()
    ):
        return True
    models = [task.folder.parent / f"fold_{fold}" / FINAL for fold in _folds(task)]
    return any(not model.is_file() or model.stat().st_mtime > path.stat().st_mtime for model in models)


def _folds(task: Task) -> list[str]:
    """The folds whose networks a command predicts with, where it names them."""
    words = list(task.command)
    after = words[words.index("-f") + 1 :] if "-f" in words else []
    return list(takewhile(lambda word: not word.startswith("-"), after))


def _in_table(path: Path) -> set[str]:
    """Cases of a table of case-level predictions, which is written whole."""
    if not path.is_file():
        return set()
    with path.open(encoding="utf-8", newline="") as file:
        return {row["case"] for row in csv.DictReader(file)}


def whole_checkpoint(path: Path) -> bool:
    """Whether the archive has its directory, which is written last."""
    return path.is_file() and zipfile.is_zipfile(path)


def predictions(task: Task) -> list[Path]:
    """The segmentations that a prediction will leave, one for each case of its input.

    Raises:
        ValueError: the input holds no image.
    """
    ending = _file_ending(task.folder, _images(task))
    return [task.folder / f"{case}{ending}" for case in _cases(task)]


def _cases(task: Task) -> list[str]:
    images = _images(task)
    return list(cases_of(images, _file_ending(task.folder, images)))


def _images(task: Task) -> Path:
    """The input of a prediction."""
    return Path(task.command[task.command.index("-i") + 1])


def _file_ending(folder: Path, images: Path) -> str:
    """As the dataset.json of the model, or else of the images, says."""
    import json

    for path in (folder.parent / "dataset.json", images.parent / "dataset.json"):
        if path.is_file():
            return str(json.loads(path.read_text(encoding="utf-8"))["file_ending"])
    return ".nii.gz"


def is_damaged(path: Path) -> bool:
    """Whether an image was cut by a kill or a full disk."""
    try:
        check_image(path)
    except ValueError:
        return True
    return False


def put_aside(task: Task) -> list[str]:
    """Renames what would mislead the command that is about to start; returns the names.

    These are checkpoints and predictions that were cut, and the summary of an earlier training in the folder of one
    that starts anew. Where our trainers left the checkpoint before the latest, they find it by themselves.
    """
    if task.kind != "train":
        files = [] if task.case_level else predictions(task)
        there = [path for path in files if path.is_file()]
        outdated = [_rename(path, EARLIER) for path in there if is_outdated(task, path)]
        return outdated + [_rename(path, BROKEN) for path in there if path.is_file() and is_damaged(path)]
    aside = []
    if not whole_checkpoint(task.folder / PREVIOUS):
        files = [task.folder / name for name in CHECKPOINTS]
        aside = [_rename(path, BROKEN) for path in files if path.is_file() and not whole_checkpoint(path)]
    summary = written_last(task)
    if summary.is_file() and not (task.folder / FINAL).is_file():
        aside.append(_rename(summary, EARLIER))
    return aside


def _rename(path: Path, mark: str) -> str:
    """``checkpoint_latest.pth`` becomes ``checkpoint_latest.pth.broken``, which no command of nnU-Net looks for."""
    os.replace(path, path.with_name(path.name + mark))
    return path.name


# --- one process a run


def lock_file(task: Task) -> Path:
    """Beside the folder, which nnU-Net and people may remove."""
    return task.folder.parent / f".{task.folder.name}.lock"


def lock_of(task: Task) -> FileLock:
    """The lock of the run's folder; the operating system releases it when its holder ends, however it ends."""
    lock_file(task).parent.mkdir(parents=True, exist_ok=True)
    return FileLock(lock_file(task))


def is_locked(task: Task) -> bool:
    """Whether a process works on the run at this moment; looking leaves nothing behind."""
    if not lock_file(task).exists():
        return False
    lock = lock_of(task)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


@contextmanager
def alone(task: Task) -> Iterator[bool]:
    """Tries to hold the run for this process; gives whether it could."""
    lock = lock_of(task)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
