"""The curve of the learning rate over the epochs, as plain numbers. Nothing here imports torch."""

import math
from collections.abc import Callable, Mapping

# share of the initial rate left at ``progress``, 0 at the end of the warm-up and 1 after the last epoch
DECAYS: Mapping[str, Callable[[float], float]] = {
    "poly": lambda progress: (1 - progress) ** 0.9,  # nnU-Net's
    "cosine": lambda progress: (1 + math.cos(math.pi * progress)) / 2,
}


def share(schedule: str, epoch: int, epochs: int, warmup: int) -> float:
    """The part of the initial rate with which an epoch, counted from 0, is trained.

    Args:
        schedule: a key of :data:`DECAYS`.
        epoch: 0 to ``epochs`` - 1.
        epochs: of the training.
        warmup: epochs of linear increase before the schedule, which then has the rest of the epochs.
    """
    if epoch < warmup:
        return (epoch + 1) / (warmup + 1)
    return DECAYS[schedule]((epoch - warmup) / (epochs - warmup))
