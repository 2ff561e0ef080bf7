"""The schema: what is read, and one sentence for each way to declare what is not possible."""

import json
from typing import Any

import pytest

from nnunet_ext.outcomes.columns import CODINGS, KINDS, Schema, load_schema, schema_from

WHOLE: dict[str, Any] = {
    "format": 1,
    "columns": {
        "grade": {"kind": "class", "levels": ["LGG", "HGG"]},
        "survival_class": {"kind": "ordinal", "levels": ["short", "medium", "long"]},
        "score": {"kind": "regression", "unit": "years", "bands": [0.5, 1.0, 2.0]},
        "days": {"kind": "survival", "unit": "days", "censoring": "censored", "cuts": [300.0, 450.0]},
    },
    "covariates": {
        "age": {"coding": "z", "missing": "mean"},
        "sex": {"coding": "binary", "levels": ["F", "M"], "missing": "refuse"},
        "resection": {"coding": "one-hot", "levels": ["GTR", "STR", "NA"], "missing": "indicator"},
    },
    "groups": ["patient"],
    "stratify": "survival_class",
    "inputs": {"frontal": [0, 1, 2], "lateral": [3, 4, 5]},
}
GRADE = {"kind": "class", "levels": ["LGG", "HGG"]}


def test_a_schema_comes_back_from_its_file(tmp_path):
    (tmp_path / "targets.json").write_text(json.dumps(WHOLE))
    schema = load_schema(tmp_path / "targets.json")
    assert schema.as_dict() == WHOLE
    assert schema_from(json.loads(json.dumps(schema.as_dict()))) == schema
    declared = ("grade", "survival_class", "score", "days", "censored", "age", "sex", "resection", "patient")
    assert schema.declared == declared


def test_what_is_left_out_has_a_default():
    schema = schema_from({"columns": {"grade": GRADE, "days": {"kind": "survival", "censoring": "c"}}})
    assert (schema.stratify, schema.groups, schema.inputs, schema.covariates) == ("grade", (), {}, {})
    assert schema.columns["days"].unit == "days"
    assert (
        schema_from({"columns": {"a": GRADE}, "covariates": {"b": {"coding": "z"}}}).covariates["b"].missing == "refuse"
    )


def test_whole_numbers_may_be_levels():
    assert schema_from({"columns": {"a": {"kind": "ordinal", "levels": [1, 2, 3]}}}).columns["a"].levels == (
        "1",
        "2",
        "3",
    )


def test_the_middle_class_of_survival_is_closed_on_both_sides():
    days = schema_from(WHOLE).columns["days"]
    assert [days.cut(value) for value in (0, 299.9, 300, 375, 450, 450.1, 2000)] == [0, 0, 1, 1, 1, 2, 2]


def test_features_of_covariates():
    covariates = schema_from(WHOLE).covariates
    assert covariates["age"].features == ("age",)
    assert covariates["sex"].features == ("sex",)
    assert covariates["resection"].features == ("resection=GTR", "resection=STR", "resection=NA", "resection?")


def having(**changed: Any) -> dict[str, Any]:
    return {"columns": {"grade": GRADE}, **changed}


def column(**declared: Any) -> dict[str, Any]:
    return {"columns": {"a": declared}}


def covariate(**declared: Any) -> dict[str, Any]:
    return having(covariates={"b": declared})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([], "not an object"),
        ({}, "declares no target"),
        (having(colums={}), "key 'colums'"),
        (having(format=2), "format 2"),
        (having(columns=[]), "not an object"),
        (having(columns={"grade": "class"}), "not an object"),
        (column(kind="rank", levels=["a", "b"]), "kind 'rank'; known are class, ordinal, regression, survival"),
        (column(kind=["class"], levels=["a", "b"]), "kind ['class']"),
        (column(levels=["a", "b"]), "kind None"),
        (column(kind="class"), 'lacks "levels"'),
        (column(kind="ordinal"), 'lacks "levels"'),
        (column(kind="regression"), 'lacks "unit"'),
        (column(kind="survival"), 'lacks "censoring"'),
        (column(kind="class", levels=["a", "b"], unit="mm"), "key 'unit'"),
        (column(kind="class", levels=["a"]), "at least two"),
        (column(kind="class", levels=["a", "a"]), "repeated"),
        (column(kind="class", levels=["a", ""]), "empty"),
        (column(kind="class", levels=["a", 1.5]), "list of words"),
        (column(kind="class", levels=[True, False]), "list of words"),
        (column(kind="class", levels="ab"), "list of words"),
        (column(kind="regression", unit=3), "give a text"),
        (column(kind="regression", unit="mm", bands=[2, 1]), "ascending"),
        (column(kind="regression", unit="mm", bands=[0, 1]), "not positive"),
        (column(kind="regression", unit="mm", bands=[]), "ascending"),
        (column(kind="regression", unit="mm", cuts=[1, 1]), "ascending"),
        (column(kind="regression", unit="mm", cuts=["1"]), "list of numbers"),
        (column(kind="regression", unit="mm", cuts=[float("nan")]), "list of numbers"),
        (column(kind="survival", censoring=1), "give a text"),
        (covariate(coding="rank"), "coding 'rank'"),
        (covariate(coding="z", levels=["a", "b"]), "key 'levels'"),
        (covariate(coding="one-hot"), 'lacks "levels"'),
        (covariate(coding="binary", levels=["a", "b", "c"]), "3 levels"),
        (covariate(coding="z", missing="zero"), "'zero'"),
        (having(groups="patient"), "list of words"),
        (having(groups=["p", "p"]), "repeated"),
        (having(stratify="rank"), "no target 'rank'; it has grade"),
        (having(stratify=["grade"]), "give a text"),
        (having(inputs={"a": []}), "channels []"),
        (having(inputs={"a": [0, 0]}), "channels [0, 0]"),
        (having(inputs={"a": [0, 1], "b": [1, 2]}), "gives the channel 1 to the inputs 'a' and 'b'"),
        (having(inputs={"a": [-1]}), "list of channels"),
        (having(inputs={"a": ["T1"]}), "list of channels"),
        (having(groups=["grade"]), "'grade' as a target and as"),
        (having(covariates={"grade": {"coding": "z"}}), "'grade' as a target and as"),
        ({"columns": {"case": GRADE}}, "'case'"),
        ({"columns": {"set": GRADE}}, "'set'"),
        ({"columns": {" a": GRADE}}, "' a'"),
        ({"columns": {"d": {"kind": "survival", "censoring": "d"}}}, "its censoring is a target"),
        ({"columns": {"d": {"kind": "survival", "censoring": "e"}}, "groups": ["e"]}, "'e' as a target and as"),
    ],
)
def test_what_is_not_possible_is_one_sentence(content: Any, said: str):
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - the sentence is looked at
        schema_from(content)
    message = str(raised.value)
    assert said in message
    assert message.endswith(".")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is no JSON"),
        ('{"columns": {"a": {"kind": "class", "levels": ["x", "y"]}, "a": {}}}', "'a' twice"),
        (b"\xff\xfe", "is no JSON"),
    ],
)
def test_a_file_that_cannot_be_read(text: str | bytes, said: str, tmp_path):
    path = tmp_path / "targets.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=said):
        load_schema(path)


def test_a_file_may_begin_with_the_mark_of_utf8(tmp_path):
    path = tmp_path / "targets.json"
    path.write_text(json.dumps({"columns": {"grade": GRADE}}), encoding="utf-8-sig")
    assert list(load_schema(path).columns) == ["grade"]


def test_no_file(tmp_path):
    with pytest.raises(ValueError, match=r"There is no .*targets\.json; write one"):
        load_schema(tmp_path / "targets.json")


@pytest.mark.parametrize("table", [KINDS, CODINGS])
def test_every_kind_and_coding_can_be_declared(table):
    """The least declaration of each: what it needs."""
    least: dict[str, Any] = {"levels": ["a", "b"], "unit": "mm", "censoring": "c"}
    for name, (needed, _) in table.items():
        key = "kind" if table is KINDS else "coding"
        entry = {key: name, **{key: least[key] for key in needed}}
        content = {"columns": {"x": entry}} if table is KINDS else having(covariates={"x": entry})
        assert isinstance(schema_from(content), Schema)
