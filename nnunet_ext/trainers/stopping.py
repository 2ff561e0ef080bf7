"""When a training may end early: rules on the log, which a continued training finds again."""

from collections.abc import Mapping, Sequence
from typing import Any


def epochs_without_gain(history: Sequence[float], since: int = 0) -> int:
    """Epochs since the best value of the pseudo Dice's moving average, or since the epoch ``since`` if it was later."""
    if not history:
        return 0
    best = max(range(len(history)), key=history.__getitem__)  # the first of equals
    return len(history) - 1 - max(best, since)


def is_due(history: Sequence[float], patience: int | None, checks: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the training may end after these epochs, unless full volumes tell otherwise.

    Args:
        history: moving average of the pseudo Dice, an epoch each.
        patience: so many epochs without a better one; None for never.
        checks: what full volumes told before; the count begins anew after each.
    """
    since = max((check["epoch"] for check in checks), default=0)
    return patience is not None and epochs_without_gain(history, since) >= patience


def stopped(checks: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the last check ended the training."""
    return bool(checks) and bool(checks[-1]["stopped"])
