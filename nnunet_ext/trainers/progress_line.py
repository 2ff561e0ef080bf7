"""One line that tells how a training stands: epoch, loss, Dice and the time that is left."""

import math
import time
from collections.abc import Callable, Mapping
from typing import TextIO

ON_TERMINAL, ELSEWHERE = 1.0, 60.0  # seconds between two lines
WEIGHT = 0.1  # of the newest step in the moving average of the duration


class ProgressLine:
    """Rewrites a line of a terminal; writes a new one at most once a minute to anything else.

    Args:
        stream: where it is written.
        epochs, steps: of the training and of an epoch.
        clock: seconds, monotonic.
    """

    def __init__(self, stream: TextIO, epochs: int, steps: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.stream, self.epochs, self.steps, self.clock = stream, epochs, steps, clock
        self.terminal = stream.isatty()
        self.told: float | None = None  # when
        self.begun: float | None = None  # the last step
        self.duration: float | None = None  # of a step, moving average
        self.dice = ""
        self.width = 0

    def step(self, epoch: int, step: int, loss: float) -> None:
        """After a training step; both counted from 0."""
        now = self.clock()
        if self.begun is not None:
            taken = now - self.begun
            self.duration = taken if self.duration is None else (1 - WEIGHT) * self.duration + WEIGHT * taken
        self.begun = now
        if self.told is not None and now - self.told < (ON_TERMINAL if self.terminal else ELSEWHERE):
            return
        self.told = now
        left = self.steps * (self.epochs - epoch) - step - 1
        self._write(f"epoch {epoch + 1}/{self.epochs} step {step + 1}/{self.steps}  loss {loss:.4f}{self.dice}", left)

    def epoch(self, dice: Mapping[str, float]) -> None:
        """After the validation of an epoch: the pseudo Dice by region, told with the next lines."""
        self.dice = "  Dice " + ", ".join(f"{name} {value:.3f}" for name, value in dice.items())
        if self.terminal and self.width:  # nnU-Net's lines come next
            self.stream.write("\r" + " " * self.width + "\r")
            self.width = 0
        self.stream.flush()

    def _write(self, text: str, left: int) -> None:
        if self.duration is not None:
            text += f"  about {duration(left * self.duration)} left"
        if self.terminal:
            self.stream.write("\r" + text.ljust(self.width))
            self.width = len(text)
        else:
            self.stream.write(text + "\n")
        self.stream.flush()


def duration(seconds: float) -> str:
    """A duration in words: ``3 h 05 min``, ``12 min``, ``40 s``."""
    minutes = math.ceil(seconds / 60)
    if seconds < 60:
        return f"{math.ceil(seconds)} s"
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min"
