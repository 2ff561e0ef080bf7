"""What a sweep is doing: a table that is renewed on a terminal, or printed once."""

import io
import logging
import re
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TextIO

from nnunet_ext.evaluation.epochs import epochs_of
from nnunet_ext.evaluation.runs import Run
from nnunet_ext.experiments.pulse import median_seconds
from nnunet_ext.experiments.state import State, predicted, state_of
from nnunet_ext.experiments.tasks import Task

LOG = logging.getLogger("nnunet_ext.experiments")
EPOCHS = 1000  # of nnU-Net's trainer
NAMED = re.compile(r"_(\d+)epochs?(?:_|$)")
SECONDS = 5.0  # between two looks
COLUMNS = ("run", "state", "done", "{}", "time left", "memory")
DICE, SKILL = "Dice", "skill"  # what an epoch's validation measures: of segmentations, of case-level targets


@dataclass(frozen=True)
class Row:
    """One task, as far as its files tell.

    Attributes:
        name: of the task.
        state: of the task.
        done: epochs of a training, cases of a prediction.
        of: how many there will be.
        dice: moving average of the pseudo Dice, or of the skill.
        seconds_left: at the median duration of the last epochs; the final validation is not in it.
        peak_mib: of the last epoch.
    """

    name: str
    state: State
    done: int
    of: int
    dice: float | None = None
    seconds_left: float | None = None
    peak_mib: float | None = None

    def cells(self) -> tuple[str, ...]:
        """As text, in the order of ``COLUMNS``."""
        left = self.seconds_left if self.state in (State.RUNNING, State.INTERRUPTED) else None
        return (
            self.name,
            self.state.value,
            f"{self.done}/{self.of}",
            "" if self.dice is None else f"{self.dice:.3f}",
            "" if left is None else _duration(left),
            "" if self.peak_mib is None else f"{self.peak_mib:.0f} MiB",
        )


def row_of(task: Task) -> Row:
    """Reads a task's files; a stock training tells its epochs in its log."""
    state = state_of(task)
    if task.kind != "train":
        return Row(task.name, state, *predicted(task))
    records = epochs_of(task.folder)
    if not records:
        return Row(task.name, state, 0, planned_epochs(task))
    done, of = records[-1]["epoch"] + 1, planned_epochs(task)
    if state is State.FINISHED:  # also where it was ended early
        of = done
    seconds = median_seconds(records)
    return Row(
        name=task.name,
        state=state,
        done=done,
        of=of,
        dice=records[-1]["ema_pseudo_dice"],
        seconds_left=None if seconds is None else (of - done) * seconds,
        peak_mib=records[-1].get("peak_mib"),
    )


def planned_epochs(task: Task) -> int:
    """Of the recipe that our trainers save, or as the trainer's name says, or nnU-Net's number."""
    recipe = Run("", "", "", "", None, "", task.folder, "").recipe()
    if "epochs" in recipe:
        return int(recipe["epochs"])
    named = NAMED.search(task.folder.parent.name.partition("__")[0])
    return int(named[1]) if named else EPOCHS


def status(tasks: Sequence[Task]) -> str:
    """The table once, for ``--status``, and a line that counts the states."""
    rows = [row_of(task) for task in tasks]
    written = io.StringIO()
    _console(written, width=max(80, *(len(row.name) for row in rows)) + 60 if rows else 80).print(_table(rows, tasks))
    text = "\n".join(line.rstrip() for line in written.getvalue().splitlines())
    return f"{text}\n{counts(rows)}"


def counts(rows: Sequence[Row]) -> str:
    """How many there are of each state."""
    found = {state: sum(row.state is state for row in rows) for state in reversed(State)}
    return ", ".join(f"{number} {state.value}" for state, number in found.items() if number) or "no task"


@contextmanager
def watching(tasks: Sequence[Task], stream: TextIO = sys.stderr) -> Iterator[None]:
    """Shows the table while the tasks run, and above it what is told of them; without a terminal these lines alone."""
    console = _console(stream)
    if not console.is_terminal:
        with _telling(logging.StreamHandler(stream)):
            yield
        return
    from rich.live import Live
    from rich.logging import RichHandler

    rows: list[Row] = [row_of(task) for task in tasks]
    ended = threading.Event()
    with Live(_table(rows, tasks), console=console, auto_refresh=False) as live, _telling(RichHandler(console=console)):

        def renew() -> None:
            while not ended.wait(SECONDS):
                live.update(_table([row_of(task) for task in tasks], tasks), refresh=True)

        thread = threading.Thread(target=renew, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            live.update(_table([row_of(task) for task in tasks], tasks), refresh=True)


@contextmanager
def _telling(handler: logging.Handler) -> Iterator[None]:
    """What the dispatcher logs goes to the handler, and nowhere else."""
    level, propagate = LOG.level, LOG.propagate
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)
    LOG.propagate = False
    try:
        yield
    finally:
        LOG.removeHandler(handler)
        LOG.setLevel(level)
        LOG.propagate = propagate


def _console(stream: TextIO, width: int | None = None) -> Any:
    try:
        from rich.console import Console
    except ModuleNotFoundError:
        raise ValueError('The table needs rich: pip install "nnunet_ext[sweep]".') from None
    return Console(file=stream, width=width)


def _table(rows: Sequence[Row], tasks: Sequence[Task]) -> Any:
    from rich.table import Table

    measure = SKILL if any(task.case_level for task in tasks) else DICE  # an experiment is of one kind
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for number, column in enumerate(COLUMNS):
        table.add_column(column.format(measure), justify="left" if number < 2 else "right", overflow="fold")
    for row in rows:
        table.add_row(*row.cells())
    return table


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min" if minutes else "< 1 min"
