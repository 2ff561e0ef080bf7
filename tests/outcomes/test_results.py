"""The files of case-level results: what comes back is what was written, and what means nothing is refused."""

import json

import numpy as np
import pandas as pd
import pytest

from nnunet_ext.outcomes.results import FACTS_FILE, TABLE_FILE, read, write
from tests.outcomes.samples import DAYS, GRADE, SCORE, STAGE

COLUMNS = (GRADE, STAGE, SCORE, DAYS)


def rows():
    """Two cases with one column of each kind."""
    return pd.DataFrame(
        [
            {
                "case": "a",
                "column": "grade",
                "kind": "class",
                "prediction": "HGG",
                "truth": "LGG",
                "p_LGG": 0.25,
                "p_HGG": 0.75,
            },
            {
                "case": "b",
                "column": "grade",
                "kind": "class",
                "prediction": "HGG",
                "truth": "HGG",
                "p_LGG": 0.5,
                "p_HGG": 0.5,
            },
            {"case": "a", "column": "stage", "kind": "ordinal", "prediction": "short", "truth": "long"}
            | {"p_short": 0.5, "p_medium": 0.25, "p_long": 0.25},
            {"case": "b", "column": "stage", "kind": "ordinal", "prediction": "long", "truth": ""}
            | {"p_short": 0, "p_medium": 0, "p_long": 1},
            {
                "case": "a",
                "column": "score",
                "kind": "regression",
                "prediction": 1.25,
                "truth": 1.0,
                "lower": 0,
                "upper": 2,
            },
            {
                "case": "b",
                "column": "score",
                "kind": "regression",
                "prediction": 1 / 3,
                "truth": 0.0,
                "lower": 0,
                "upper": 1,
            },
            {"case": "a", "column": "days", "kind": "survival", "prediction": 100.5, "truth": 361, "censored": 1},
            {"case": "b", "column": "days", "kind": "survival", "prediction": 90, "truth": 80, "censored": 0},
        ]
    ).assign(fold=0, seed=7)


def test_what_is_written_comes_back(tmp_path):
    metrics = write(tmp_path, rows(), COLUMNS, {"dataset": "Dataset501_X", "trainer": "T"})
    found = read(tmp_path)
    assert found.facts == {"dataset": "Dataset501_X", "trainer": "T"}
    assert dict(found.columns) == {column.name: column for column in COLUMNS}
    grade, score, days = (found.predictions(name) for name in ("grade", "score", "days"))
    assert grade.truth.tolist() == [0, 1]
    assert grade.prediction.tolist() == [1, 1]
    assert grade.probability.tolist() == [[0.25, 0.75], [0.5, 0.5]]
    assert score.prediction.tolist() == [1.25, 1 / 3]  # to the last bit
    assert score.upper.tolist() == [2, 1]
    assert days.censored.tolist() == [True, False]
    assert found.predictions("stage").truth.tolist() == [2, -1]
    assert set(found.table["patient"]) == {"a", "b"}
    assert set(found.table["seed"]) == {"7"}
    assert metrics["grade"]["accuracy"] == 0.5
    assert metrics["stage"]["accuracy"] == 0  # of the case whose truth is known
    assert json.loads((tmp_path / FACTS_FILE).read_text())["metrics"]["days"]["mae"] == 10


def test_the_file_is_what_the_document_says(tmp_path):
    write(tmp_path, rows(), COLUMNS)
    head, first, *_ = (tmp_path / TABLE_FILE).read_text().splitlines()
    levels = "p_LGG,p_HGG,p_short,p_medium,p_long"
    assert head == f"case,patient,column,kind,prediction,truth,lower,upper,{levels},fold,seed,censored"
    assert first == "a,a,grade,class,HGG,LGG,,,0.25,0.75,,,,0,7,"


def test_a_level_may_be_called_as_pandas_calls_what_is_missing(tmp_path):
    from nnunet_ext.outcomes.columns import Column

    column = Column("resection", "class", ("NA", "1.0"))
    table = pd.DataFrame(
        {
            "case": ["01", "2"],
            "column": "resection",
            "kind": "class",
            "prediction": ["NA", "1.0"],
            "truth": ["1.0", "NA"],
        }
    ).assign(fold="test")
    write(tmp_path, table, [column])
    found = read(tmp_path)
    assert list(found.table["case"]) == ["01", "2"]
    assert found.predictions("resection").truth.tolist() == [1, 0]


def change(place, **cells):
    table = rows().astype(object)
    for name, value in cells.items():
        table.loc[place, name] = value
    return table


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        (change(4, prediction=np.nan), "'nothing' as prediction of score for a; expected a finite number"),
        (change(4, prediction=np.inf), "'inf' as prediction of score for a; expected a finite number"),
        (change(0, prediction="GBM"), "'GBM' as prediction of grade for a; expected one of LGG, HGG"),
        (change(0, truth="nan"), "'nan' as truth of grade for a; expected one of LGG, HGG"),
        (change(1, case="a"), "has the case a twice for grade"),
        (change(0, column="size"), "has rows of size, which is not among the columns grade, stage, score, days"),
        (change(0, kind="ordinal"), "calls grade ordinal, but it is declared as class"),
        (change(0, p_LGG=0.5), "probabilities of grade that are missing, negative or do not sum to 1"),
        (change(0, p_LGG=np.nan), "probabilities of grade that are missing, negative or do not sum to 1"),
        (rows().assign(age=3), "unknown fields age"),
        (rows().drop(columns="fold"), "lacks the fields fold"),
        (rows().iloc[:0], "has no row"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_means_nothing_is_refused_and_nothing_is_written(table, sentence, tmp_path):
    with pytest.raises(ValueError, match=r"The table to be written") as told:
        write(tmp_path, table, COLUMNS)
    assert sentence in str(told.value)
    assert not list(tmp_path.iterdir())


def test_files_that_are_missing_or_foreign_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds no case_metrics.csv and no case_metrics.json; the validation of"):
        read(tmp_path)
    write(tmp_path, rows(), COLUMNS)
    told = json.loads((tmp_path / FACTS_FILE).read_text())
    (tmp_path / FACTS_FILE).write_text(json.dumps({**told, "format": 2}))
    with pytest.raises(ValueError, match=r"has the format 2, this version reads 1"):
        read(tmp_path)


def test_a_file_that_was_changed_by_hand_is_checked_as_well(tmp_path):
    write(tmp_path, rows(), COLUMNS)
    text = (tmp_path / TABLE_FILE).read_text()
    (tmp_path / TABLE_FILE).write_text(text.replace("regression,1.25", "regression,nan"))
    with pytest.raises(ValueError, match=r"case_metrics.csv has 'nan' as prediction of score for a"):
        read(tmp_path)
