"""Exact Shapley values (Shapley 1953, doi:10.1515/9781400881970-018) of a game of few players.

captum's ShapleyValues goes through all permutations of the players, n! of them with n evaluations each; the tests
compare with it. Here each of the 2^n coalitions is evaluated once, and their values are kept: several games that are
read off the same predictions (regions, value functions) cost no further prediction.

A coalition is a number whose bit i says that player i is in it; 0 is the empty one, 2^n - 1 all players.
"""

from collections.abc import Sequence
from math import comb

import numpy as np
from numpy.typing import NDArray

MOST = 8
"""Players: 256 predictions of every case."""


def check_number(players: int) -> None:
    """Refuses too many players.

    Raises:
        ValueError: more than ``MOST``, or none.
    """
    if not 1 <= players <= MOST:
        raise ValueError(
            f"Exact Shapley values need 2^n predictions a case, and the dataset has {players} image channels; "
            f"expected are 1 to {MOST}."
        )


def members(coalition: int, players: int) -> tuple[int, ...]:
    """The players of a coalition, in their order."""
    return tuple(i for i in range(players) if coalition >> i & 1)


def shapley(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The Shapley value of every player.

    Args:
        values: (2^n, ...), of every coalition by its number, for any number of games.

    Returns:
        (n, ...); their sum is ``values[-1] - values[0]``. A player who changes no coalition has exactly 0.

    Raises:
        ValueError: the number of coalitions is no power of two.
    """
    players = len(values).bit_length() - 1
    if len(values) != 2**players:
        raise ValueError(f"There are {len(values)} coalitions; expected is a power of two.")
    found = [_of_player(np.asarray(values, np.float64), i, players) for i in range(players)]
    return np.stack(found) if found else np.zeros((0, *values.shape[1:]))


def _of_player(values: NDArray[np.float64], player: int, players: int) -> NDArray[np.float64]:
    """The mean over sizes of coalitions of the mean over those of a size of what the player adds."""
    total = np.zeros(values.shape[1:])
    for coalition in range(len(values)):
        if not coalition >> player & 1:
            weight = 1 / (players * comb(players - 1, coalition.bit_count()))
            total = total + weight * (values[coalition | 1 << player] - values[coalition])
    return total


def ranking(values: Sequence[float]) -> list[int]:
    """Indices, the largest value first; equal ones in their order."""
    return sorted(range(len(values)), key=lambda i: -values[i])
