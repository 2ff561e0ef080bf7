"""Tasks whose commands take milliseconds."""

import hashlib
import sys
from dataclasses import replace
from pathlib import Path

from nnunet_ext.experiments.settings import Settings
from nnunet_ext.experiments.tasks import Needs, Task
from tests.experiments.fake_training import load

SCRIPT = Path(__file__).with_name("fake_training.py")
QUICK = {"poll_seconds": 0.05, "free_gib": 0, "grace_seconds": 5}


def fake(root, name="run", *words, after=(), needs=Needs(cpus=1)):  # noqa: B008 - frozen
    """A training of three epochs below ``root``; further words as the script takes them."""
    folder = root / "results" / name / "fold_0"
    command = (sys.executable, "-S", str(SCRIPT), str(folder), *map(str, words))
    return Task(name, "train", command, (*command, "--c"), folder, after, needs)


def quick(root, **changes):
    return replace(Settings(root / "experiment", **QUICK), **changes)


def value(epochs):
    """What the weights of a training are after so many epochs, in one go."""
    chain = ""
    for epoch in range(epochs):
        chain = hashlib.sha256(f"{chain}{epoch}".encode()).hexdigest()
    return chain


def final(task):
    return load(task.folder / "checkpoint_final.pth")


def starts(task):
    """How the command was started each time: ``new`` or ``--c``."""
    return (task.folder / "started.txt").read_text().split()


def contents(folder):
    """Time and SHA-256 of each file."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.name: (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files}
