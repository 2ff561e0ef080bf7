"""Sweeps whose driver, workers or head are killed at random moments, and started again until they are done.

The trainings are the stand-ins of the tests: the files of nnUNetv2_train in their order, an epoch in milliseconds, and
weights that are a hash chained over the epochs, so that an epoch that is lost or done twice is seen. That the trainings
themselves can be killed anywhere is shown by ``benchmarks/kills.py``.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.record import markdown
from nnunet_ext.experiments.settings import Settings
from nnunet_ext.experiments.state import State, on_disk
from nnunet_ext.experiments.tasks import Task, write
from tests.experiments.fakes import contents, fake, final, starts, value

RUNS, EPOCHS, SECONDS = 6, 40, 0.05
CORES = 2
LONGEST = 600  # seconds that a sweep may take; one that hangs is a failure
VICTIMS = ("driver", "worker", "head")
HEADS = ("raylet", "gcs_server")
DRIVER = """
import json, sys
from pathlib import Path
from nnunet_ext.experiments import pool, settings, tasks
found = pool.run_all(tasks.read(Path(sys.argv[1])), settings.settings_of(json.loads(sys.argv[2])))
sys.exit(max(outcome.code for outcome in found))
"""


@dataclass
class Sweep:
    """One sweep, from its first start to its end.

    Attributes:
        victim: what was killed.
        killed: the process of each kill.
        after_seconds: when, from the start of the driver or of the trainings.
        codes: exit codes of the driver, a start each.
        trainings: how often the trainings were started, all together.
        repeated: finished runs that were touched again.
        equal: whether all final checkpoints are those of undisturbed trainings.
    """

    victim: str
    killed: list[str] = field(default_factory=list)
    after_seconds: list[float] = field(default_factory=list)
    codes: list[int | None] = field(default_factory=list)
    trainings: int = 0
    repeated: int = 0
    equal: bool = False


def sweeps(root: Path, victim: str, kills: int, chance: random.Random) -> Iterator[Sweep]:
    """As many sweeps as it takes to kill so often."""
    killed = number = 0
    while killed < kills:
        found = one_sweep(root / f"{victim}{number}", victim, kills - killed, chance)
        killed += len(found.killed)
        number += 1
        yield found


def one_sweep(root: Path, victim: str, most: int, chance: random.Random) -> Sweep:
    """Starts a sweep until it is done; workers are killed one after the other, driver and head once a start."""
    tasks = [fake(root, f"run{number}", "--epochs", EPOCHS, "--seconds", SECONDS) for number in range(RUNS)]
    settings = Settings(root / "experiment", poll_seconds=0.1, free_gib=0, cpus=CORES, gpus=0)
    root.mkdir()
    write(tasks, root / "tasks.json")
    found, untouched = Sweep(victim), dict[str, object]()
    while not found.codes or found.codes[-1] != 0:
        process = start(root, settings)
        while len(found.killed) < most and strike(process, tasks, found, chance) and victim == "worker":
            pass
        found.codes.append(ended(process))
        found.repeated += touched(tasks, untouched)
        if len(found.codes) > most + 3:
            break
    found.trainings = sum(len(starts(task)) for task in tasks)
    found.equal = all(on_disk(task) is State.FINISHED and final(task)["value"] == value(EPOCHS) for task in tasks)
    return found


def start(root: Path, settings: Settings) -> subprocess.Popen[bytes]:
    """A driver in a session of its own."""
    words = [sys.executable, "-c", DRIVER, str(root / "tasks.json"), json.dumps(settings.as_dict())]
    with (root / "output.txt").open("ab") as output:
        return subprocess.Popen(words, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)


def strike(process: subprocess.Popen[bytes], tasks: Sequence[Task], found: Sweep, chance: random.Random) -> bool:
    """Waits for a random moment and kills; returns whether there was something to kill.

    The driver may be killed while Ray starts; worker and head are killed after a training has begun.
    """
    began = time.monotonic()
    if found.victim != "driver":
        while process.poll() is None and not any(task.folder.exists() for task in tasks):
            time.sleep(0.05)
        began = time.monotonic()
    seconds = chance.uniform(0, 15 if found.victim == "driver" else 2)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        name, pid = chosen(process.pid, found.victim, chance)
        if pid is None:
            return False
        os.kill(pid, signal.SIGKILL)
        found.killed.append(name)
        found.after_seconds.append(round(time.monotonic() - began, 2))
        return True
    return False


def chosen(driver: int, victim: str, chance: random.Random) -> tuple[str, int | None]:
    """Name and id of the process that is killed."""
    if victim == "driver":
        return "driver", driver
    family = below(driver)
    if victim == "worker":
        busy = [pid for pid, name in family.items() if name.startswith("ray::run")]
        return "worker", chance.choice(busy) if busy else None
    name = chance.choice(HEADS)
    return name, next((pid for pid, command in family.items() if command.endswith(name)), None)


def below(parent: int) -> dict[int, str]:
    """Descendants of a process and the first word of their commands."""
    words = ["ps", "-eo", "pid=,ppid=,args="]
    listed = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    lines = [line.split(None, 2) for line in listed]
    found: dict[int, str] = {}
    new = {parent}
    while new:
        new = {int(pid) for pid, of, _ in lines if int(of) in new}
        found.update({int(pid): args.split()[0] for pid, _, args in lines if int(pid) in new})
    return found


def ended(process: subprocess.Popen[bytes]) -> int | None:
    """Exit code; None of one that had to be ended."""
    try:
        return process.wait(LONGEST)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return None


def touched(tasks: Sequence[Task], untouched: dict[str, object]) -> int:
    """How many runs that were finished before have changed; notes those that are finished now."""
    changed = sum(contents(task.folder) != untouched[task.name] for task in tasks if task.name in untouched)
    untouched.update({task.name: contents(task.folder) for task in tasks if on_disk(task) is State.FINISHED})
    return changed


def table(found: Sequence[Sweep]) -> str:
    """By victim."""
    rows = []
    for victim in VICTIMS:
        mine = [one for one in found if one.victim == victim]
        if mine:
            kills = sum(len(one.killed) for one in mine)
            equal = sum(len(one.killed) for one in mine if one.equal)
            rows.append(
                [
                    victim,
                    str(len(mine)),
                    str(kills),
                    str(equal),
                    str(sum(len(one.codes) for one in mine)),
                    str(sum(one.trainings for one in mine)),
                    str(sum(one.repeated for one in mine)),
                ]
            )
    header = (
        "killed",
        "sweeps",
        "kills",
        "same results",
        "starts of the sweep",
        "starts of trainings",
        "finished runs touched",
    )
    return markdown(header, rows)
