"""A line per epoch while ``nnUNetv2_train`` runs: epoch, loss, Dice, time left; read from what the trainer prints."""

import re
import time
from collections.abc import Callable, Iterator, Sequence

NUMBER = re.compile(r"(?<![\w.])(-?\d+(?:\.\d+)?(?:e-?\d+)?|nan)(?!\w)")  # and not the 32 of np.float32(0.5)


def clock(seconds: float) -> str:
    """Minutes and seconds."""
    return f"{round(seconds) // 60}:{round(seconds) % 60:02d}"


class EpochLines:
    """Turns a trainer's lines into a line for each epoch.

    Attributes:
        epochs: how many there will be.
        regions: names of what the pseudo Dice is given for, in its order.
    """

    def __init__(self, epochs: int, regions: Sequence[str], now: Callable[[], float] = time.monotonic) -> None:
        self.epochs, self.regions, self.now = epochs, regions, now
        self.begun: float | None = None
        self.epoch = 0
        self.loss = ""
        self.dice: list[str] = []

    def feed(self, line: str) -> Iterator[str]:
        """Take a line that the trainer printed; give what a reader should see of it, mostly nothing."""
        text = re.sub(r"^\d{4}-\d\d-\d\d [\d:.]+: ", "", line).strip()
        if match := re.fullmatch(r"Epoch (\d+)", text):
            self.epoch = int(match[1])
            self.begun = self.now() if self.begun is None else self.begun
        elif text.startswith("train_loss "):
            self.loss = text.split()[-1]
        elif text.startswith("Pseudo dice "):
            self.dice = NUMBER.findall(text)
        elif text.startswith("Epoch time"):
            yield self._epoch()
        elif text.startswith("predicting "):
            yield f"  its own validation: {text.split()[1]}"

    def _epoch(self) -> str:
        assert self.begun is not None, "an epoch ends that has not begun"
        done = self.epoch + 1
        left = (self.now() - self.begun) / done * (self.epochs - done)
        dice = "  ".join(f"{name} {float(value):.2f}" for name, value in zip(self.regions, self.dice, strict=True))
        return f"  epoch {done:>2} of {self.epochs}: loss {self.loss:>7}, Dice {dice}, {clock(left)} left"
