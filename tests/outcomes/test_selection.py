import math
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunet_ext.outcomes.columns import Column
from nnunet_ext.outcomes.selection import best, rule_for
from tests.outcomes.samples import COLUMNS, DAYS, GRADE, SCORE, STAGE

EQUAL = {"r2": 0.5, "mae": 1.0, "within_1": 0.6, "within_0.5": 0.4}


def candidate(**values):
    return {**EQUAL, **{name.replace("_05", "_0.5"): value for name, value in values.items()}}


def test_the_rule_is_the_stated_one():
    assert str(rule_for(SCORE)) == "r2 > 0, then mae; ties by within_1, within_0.5, r2"
    assert str(rule_for(GRADE)) == "auc > 0.5, then auc; ties by balanced_accuracy, accuracy"
    assert str(rule_for(STAGE)) == "quadratic_kappa > 0, then quadratic_kappa; ties by class_mae, accuracy"
    assert str(rule_for(DAYS)) == "c_index > 0.5, then c_index; ties by mae"
    other = Column("x", "regression", unit="mm", bands=(3.0, 7.0))
    assert rule_for(other).order == ("mae", "within_7", "within_3", "r2")


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ({"mae": 0.9, "within_1": 0.1, "r2": 0.1}, {}),  # the error before all else
        ({"within_1": 0.7, "within_05": 0.1, "r2": 0.1}, {}),  # then the wide band
        ({"within_05": 0.5, "r2": 0.1}, {}),  # then the narrow one
        ({"r2": 0.6}, {}),
        ({"mae": 2.0}, {"mae": math.nan}),
        ({"mae": 1 + 1e-9, "within_1": 0.7}, {}),  # equal to six decimals
    ],
)
def test_ties_are_broken_in_the_stated_order(better, worse):
    pair = {"a": candidate(**worse), "b": candidate(**better)}
    assert best(SCORE, pair, 2).names == ("b", "a")


def test_what_explains_nothing_is_never_chosen():
    found = best(SCORE, {"a": candidate(mae=0.1, r2=0.0), "b": candidate(), "c": candidate(r2=math.nan)}, 3)
    assert found.names == ("b",)
    assert found.refused == {"a": "r2 is 0, not above 0", "c": "r2 is nan, not above 0"}


def test_equal_candidates_are_ordered_by_name_whatever_their_order():
    for order in permutations("cab"):
        assert best(SCORE, {name: candidate() for name in order}, 2).names == ("a", "b")


@given(st.sampled_from(COLUMNS), st.data())
def test_the_best_k_begin_with_the_best_fewer(column, data):
    rule = rule_for(column)
    names = (rule.metric, *rule.order)
    values = st.fixed_dictionaries({name: st.floats(-1, 1) for name in names})
    candidates = data.draw(st.dictionaries(st.text("abc", min_size=1), values, max_size=5))
    three, one = (best(column, candidates, k).names for k in (3, 1))
    assert three[:1] == one
    assert all(candidates[name][rule.metric] > rule.above for name in three)


def test_bad_questions_are_answered():
    with pytest.raises(ValueError, match=r"The best 0 were asked for; ask for 1 or more"):
        best(SCORE, {}, 0)
    with pytest.raises(ValueError, match=r"a has no within_1 of score, which the rule .r2 > 0, then mae"):
        best(SCORE, {"a": {"r2": 1, "mae": 1}})
