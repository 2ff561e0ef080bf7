"""Shapley values: against permutations, against captum, by hand, and their axioms."""

from itertools import permutations

import numpy as np
import pytest
import torch
from captum.attr import ShapleyValues
from hypothesis import given
from hypothesis import strategies as st

from nnunet_ext.explain.shapley import check_number, members, ranking, shapley


def games(fewest=1, most=6):
    def of(players):
        worth = st.floats(-1e3, 1e3, allow_nan=False, width=32)
        return st.lists(worth, min_size=2**players, max_size=2**players).map(np.array)

    return st.integers(fewest, most).flatmap(of)


def twin(values):
    """The mean over all orders in which the players come of what each adds when it comes."""
    players = len(values).bit_length() - 1
    orders = list(permutations(range(players)))
    total = np.zeros(players)
    for order in orders:
        there = 0
        for player in order:
            total[player] += values[there | 1 << player] - values[there]
            there |= 1 << player
    return total / len(orders)


@given(games(most=5))
def test_the_mean_over_all_orders(values):
    np.testing.assert_allclose(shapley(values), twin(values), rtol=1e-9, atol=1e-9)


@given(games(most=8).map(lambda values: values / 1e3))
def test_the_contributions_add_up_to_what_all_are_worth(values):
    assert abs(shapley(values).sum() - (values[-1] - values[0])) < 1e-9


@given(games(most=5), st.integers(0, 5))
def test_a_player_who_changes_nothing_has_exactly_0(values, place):
    players = len(values).bit_length() - 1
    dummy = min(place, players)
    without = [[i for i in members(s, players + 1) if i != dummy] for s in range(2 ** (players + 1))]
    found = shapley(np.array([values[sum(1 << i - (i > dummy) for i in rest)] for rest in without]))
    assert found[dummy] == 0
    np.testing.assert_allclose(np.delete(found, dummy), shapley(values), atol=1e-9 * 1e3)


@given(games(2, 5), st.data())
def test_players_who_do_the_same_have_the_same(values, data):
    players = len(values).bit_length() - 1
    a, b = data.draw(st.permutations(range(players)))[:2]

    def exchanged(coalition):
        bits = [coalition >> a & 1, coalition >> b & 1]
        rest = coalition & ~(1 << a) & ~(1 << b)
        return rest | bits[1] << a | bits[0] << b

    symmetric = np.array([values[s] + values[exchanged(s)] for s in range(len(values))])
    found = shapley(symmetric)
    assert found[a] == pytest.approx(found[b], abs=1e-9 * 1e3)


@given(games(most=4).map(lambda values: values / 1e3))
def test_captum_has_the_same(values):
    players = len(values).bit_length() - 1

    def worth(present):
        return torch.tensor([values[sum(int(v) << i for i, v in enumerate(row))] for row in present.tolist()])

    found = ShapleyValues(worth).attribute(torch.ones(1, players, dtype=torch.double))
    np.testing.assert_allclose(shapley(values), found[0].numpy(), atol=1e-6)  # theirs is float32


def test_the_glove_game_by_hand():
    # 0 has a left glove, 1 and 2 a right one; a pair is worth 1
    values = np.array([bool(s & 1) and bool(s & 6) for s in range(8)], float)
    np.testing.assert_allclose(shapley(values), [2 / 3, 1 / 6, 1 / 6])


def test_several_games_at_once_are_each_alone():
    values = np.random.default_rng(0).normal(size=(16, 3, 2))
    found = shapley(values)
    assert found.shape == (4, 3, 2)
    for i in range(3):
        for k in range(2):
            np.testing.assert_array_equal(found[:, i, k], shapley(values[:, i, k]))


def test_the_largest_comes_first():
    assert ranking([0.1, 0.5, -1.0, 0.5]) == [1, 3, 0, 2]


@pytest.mark.parametrize("players", [0, 9])
def test_too_many_players_are_refused(players):
    with pytest.raises(ValueError, match=f"the dataset has {players} image channels; expected are 1 to 8"):
        check_number(players)
    check_number(8)
    with pytest.raises(ValueError, match="3 coalitions; expected is a power of two"):
        shapley(np.zeros(3))
