"""The table: cells, groups, covariates as features; hand-computed."""

import json
from math import isnan, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunet_ext.outcomes.columns import Covariate
from nnunet_ext.outcomes.standardising import Standardisation, fit
from nnunet_ext.outcomes.tables import read_table
from nnunet_ext.outcomes.targets import Targets, group_cases, load_targets
from tests.outcomes.test_columns import WHOLE

TABLE = """case,patient,grade,survival_class,score,days,censored,age,sex,resection,note
a,p1,HGG,short,1.5,120,0,50,F,GTR,x
b,p1,HGG,long,2.5,700,1,,M,NA,
c,p2,LGG,,,,,70,F,STR,y
d,p3,LGG,medium,-1,450,0,60,M,GTR,
"""


def write(folder: Path, table: str = TABLE, schema: dict[str, Any] = WHOLE) -> Path:
    (folder / "targets.csv").write_text(table, encoding="utf-8")
    (folder / "targets.json").write_text(json.dumps(schema), encoding="utf-8")
    return folder


@pytest.fixture
def targets(tmp_path) -> Targets:
    return load_targets(write(tmp_path))


def test_values_are_numbers(targets):
    assert [targets.encoded("grade", case) for case in "abcd"] == [1, 1, 0, 0]
    assert [targets.encoded("survival_class", case) for case in "abd"] == [0, 2, 1]
    assert isnan(targets.encoded("survival_class", "c"))
    np.testing.assert_array_equal(targets.values("score", "abcd"), [1.5, 2.5, np.nan, -1])
    np.testing.assert_array_equal(targets.values("days", "dba"), [450, 700, 120])
    assert [targets.observed("days", case) for case in "abcd"] == [True, False, False, True]
    assert [targets.observed("score", case) for case in "abcd"] == [True, True, False, True]
    assert targets.known("days") == ("a", "b", "d")
    assert targets.known("days", ["d", "c"]) == ("d",)
    assert targets.rows["a"]["note"] == "x"


def test_patients(targets):
    assert targets.groups == {"a": "a", "b": "a", "c": "c", "d": "d"}


def test_a_target_is_scaled_by_training_cases_only(targets):
    assert targets.scale("days", ["a", "b", "c"]) == (410, 290)
    assert targets.scale("score", ["a"]) == (1.5, 1)
    with pytest.raises(ValueError, match="No training case has a value of score"):
        targets.scale("score", ["c"])


def test_covariates_by_training_cases_only(targets):
    found = targets.standardised(["a", "c"])
    assert found.names == ("age", "sex", "resection=GTR", "resection=STR", "resection=NA", "resection?")
    assert found.of(targets.rows["a"]) == (-1, 0, 1, 0, 0, 0)
    assert found.of(targets.rows["b"]) == (0, 1, 0, 0, 1, 0)  # the age is missing: the mean
    assert found.of(targets.rows["d"]) == (0, 1, 1, 0, 0, 0)
    assert found.of({"age": "80", "sex": "M", "resection": ""}) == (2, 1, 0.5, 0.5, 0, 1)
    assert Standardisation.from_dict(json.loads(json.dumps(found.as_dict()))) == found


def test_a_case_that_is_not_trained_with_changes_nothing(targets):
    """The leak that z-scores over all cases would be."""
    other = Targets(targets.schema, {**targets.rows, "d": {**targets.rows["d"], "age": "9000"}})
    assert other.standardised(["a", "b", "c"]) == targets.standardised(["a", "b", "c"])
    assert other.standardised(["a", "d"]) != targets.standardised(["a", "d"])


def test_what_is_alike_is_not_divided_by_zero():
    ages = [{"age": "50"}, {"age": "50"}]
    assert fit([Covariate("age", "z")], ages).of({"age": "53"}) == (3,)


def test_z_scores_are_those_of_scikit_learn():
    from sklearn.preprocessing import StandardScaler

    values = np.array([[1.0], [2.5], [7.25], [-3.0]])
    found = fit([Covariate("x", "z")], [{"x": str(v)} for v in values[:, 0]])
    np.testing.assert_allclose(
        [found.of({"x": str(v)}) for v in values[:, 0]], StandardScaler().fit_transform(values), rtol=1e-12
    )
    assert found.scales[0] == pytest.approx(sqrt(((values - values.mean()) ** 2).mean()))


@pytest.mark.parametrize(
    ("covariate", "row", "said"),
    [
        (Covariate("x", "z"), {"x": ""}, "x is missing; fill"),
        (Covariate("x", "z"), {"x": "nan"}, "not finite"),
        (Covariate("x", "z"), {"x": "old"}, "no number"),
        (Covariate("x", "z"), {}, "no column x"),
        (Covariate("x", "binary", ("1", "0")), {"x": "2"}, "no level of x, which has 1, 0"),
    ],
)
def test_a_row_without_a_covariate(covariate, row, said):
    with pytest.raises(ValueError, match=said):
        fit([covariate], [{"x": "1"}]).of(row)


def test_a_covariate_that_no_training_case_has(targets):
    with pytest.raises(ValueError, match="age is known of no training case"):
        targets.standardised(["b"])


def test_a_case_or_a_target_that_is_not_there(targets):
    with pytest.raises(ValueError, match="no row of the case z"):
        targets.encoded("grade", "z")
    with pytest.raises(ValueError, match="no target 'age'; it has grade, survival_class, score, days"):
        targets.encoded("age", "a")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("LGG,medium", "IV,medium", "case d, column grade: 'IV' is no level, declared are LGG, HGG"),
        ("HGG,short", "hgg,short", "'hgg' is no level"),
        ("1.5", "nan", "column score: 'nan' is not finite"),
        ("1.5", "NA", "column score: 'NA' is no number"),
        ("1.5", "inf", "not finite"),
        ("120,0", "120,", "its censored is '', expected 1"),
        ("120,0", "120,yes", "its censored is 'yes', expected 1"),
        ("120,0", "-3,0", "the time -3 is negative"),
        ("50,F", "old,F", "column age: 'old' is no number"),
        ("50,F", "50,female", "column sex: 'female' is no level of sex"),
        ("p2,LGG", ",LGG", "case c, column patient: it is empty"),
        ("a,p1", "b,p1", "the case b a second time"),
        ("a,p1", ",p1", "line 2 has no case"),
        ("NA,\n", "NA\n", "line 3 has 10 cells, the header 11"),
        ("GTR,x", "GTR,x,y", "line 2 has 12 cells"),
        ("resection,note", "resection,age", "column 'age' twice"),
        ("case,", "name,", "no column case"),
        ("case,patient", "case,person", "no column 'patient', which targets.json declares"),
        ("days,censored", "days,dead", "no column 'censored'"),
        (TABLE, "", "no column case"),
        (TABLE, TABLE.splitlines()[0], "has no row"),
    ],
)
def test_a_wrong_cell_is_one_sentence(old, new, said, tmp_path):
    assert old in TABLE
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - the sentence is looked at
        load_targets(write(tmp_path, TABLE.replace(old, new, 1)))
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_all_wrong_cells_are_counted(tmp_path):
    with pytest.raises(ValueError, match=r"'XGG' is no level.*\. 1 other cells are wrong"):
        load_targets(write(tmp_path, TABLE.replace("HGG", "XGG")))


def test_a_folder_in_the_place_of_the_table(tmp_path):
    with pytest.raises(ValueError, match=r"is a folder; name the table itself, as .*targets\.csv"):
        read_table(tmp_path)


def test_no_table(tmp_path):
    write(tmp_path)
    (tmp_path / "targets.csv").unlink()
    with pytest.raises(ValueError, match=r"There is no .*targets\.csv; write one"):
        load_targets(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        TABLE.encode("utf-8-sig"),
        TABLE.replace(",", ";").encode(),
        TABLE.replace(",", "\t").encode(),
        TABLE.replace("\n", "\r\n").encode(),
        TABLE.replace(",", " , ").encode(),
        (TABLE + "\n,,,,,,,,,,\n").encode(),
    ],
)
def test_tables_as_spreadsheets_save_them(content, tmp_path):
    (tmp_path / "a.csv").write_text(TABLE)
    (tmp_path / "b.csv").write_bytes(content)
    assert read_table(tmp_path / "b.csv") == read_table(tmp_path / "a.csv")


def test_a_table_that_is_no_text(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"case;\xff")
    with pytest.raises(ValueError, match="no text in UTF-8"):
        read_table(tmp_path / "a.csv")


def test_sets(tmp_path):
    table = "case,set,grade\na,train,HGG\nb,test,LGG\nc,,LGG\n"
    schema = {"columns": {"grade": WHOLE["columns"]["grade"]}}
    found = load_targets(write(tmp_path, table, schema))
    assert (found.training_cases, found.test_cases) == (("a", "c"), ("b",))
    with pytest.raises(ValueError, match="set is 'Ts'; give train or test"):
        load_targets(write(tmp_path, table.replace("test", "Ts"), schema))


def slow_groups(rows: dict[str, dict[str, str]], columns: list[str]) -> dict[str, str]:
    """The obvious twin: merge sets until nothing changes."""
    sets = [{case} for case in rows]
    changed = True
    while changed:
        changed = False
        for i, one in enumerate(sets):
            for other in sets[i + 1 :]:
                if any(rows[a][c] == rows[b][c] for a in one for b in other for c in columns):
                    one.update(other)
                    sets.remove(other)
                    changed = True
                    break
    order = list(rows)
    return {case: min(next(s for s in sets if case in s), key=order.index) for case in rows}


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=9), st.integers(0, 2))
def test_groups_are_those_of_the_obvious_twin(pairs, number):
    rows = {f"c{i}": {"p": str(a), "q": str(b)} for i, (a, b) in enumerate(pairs)}
    columns = ["p", "q"][:number]
    assert group_cases(rows, columns) == slow_groups(rows, columns)
