"""The curve of the learning rate over the epochs, as plain numbers. Nothing here imports torch."""

import math
from collections.abc import Callable, Mapping

PLATEAU = "plateau"
# of a plateau, nnU-Net v1's: a fifth of the rate after 30 epochs without a better pseudo Dice
PLATEAU_PATIENCE, PLATEAU_FACTOR = 30, 0.2

# share of the initial rate left at ``progress``, 0 at the end of the warm-up and 1 after the last epoch
DECAYS: Mapping[str, Callable[[float], float]] = {
    "poly": lambda progress: (1 - progress) ** 0.9,  # nnU-Net's
    "cosine": lambda progress: (1 + math.cos(math.pi * progress)) / 2,
    # a tenth after a half and again after three quarters: He 2016, section 4.2, https://arxiv.org/abs/1512.03385
    "step": lambda progress: 0.1 ** ((progress >= 0.5) + (progress >= 0.75)),
    "exponential": lambda progress: 0.01**progress,  # a hundredth in the end
}
SCHEDULES = (*DECAYS, PLATEAU)
ENDING = ("poly", "cosine")  # they end at zero, or at a floor that is asked for


def share(schedule: str, epoch: int, epochs: int, warmup: int, plateau: float = 1.0, floor: float = 0.0) -> float:
    """The part of the initial rate with which an epoch, counted from 0, is trained.

    Args:
        schedule: one of :data:`SCHEDULES`.
        epoch: 0 to ``epochs`` - 1.
        epochs: of the training.
        warmup: epochs of linear increase before the schedule, which then has the rest of the epochs.
        plateau: the share that a plateau's cuts have left; the other schedules do not look at it.
        floor: the share at which the schedule ends, as eta_min is in torch's CosineAnnealingLR.
    """
    if epoch < warmup:
        return (epoch + 1) / (warmup + 1)
    if schedule == PLATEAU:
        return plateau
    return floor + (1 - floor) * DECAYS[schedule]((epoch - warmup) / (epochs - warmup))
