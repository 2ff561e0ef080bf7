"""Survival tables of all editions become targets; censored patients stay censored."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from dataset_conversion.brats.survival import Survival, read_survival
from dataset_conversion.brats.tables import read_table
from dataset_conversion.brats.targets import class_of, schema_of
from nnunet_ext.outcomes.targets import load_targets

HEADERS = {
    "2017": "Brats17ID,Age,Survival",
    "2018": "BraTS18ID,Age,Survival,ResectionStatus",
    "2019": "BraTS19ID,Age,Survival,ResectionStatus",
    "2020": "Brats20ID,Age,Survival_days,Extent_of_Resection",
}


def read(tmp_path: Path, text: str, *names: str) -> Any:
    (tmp_path / "survival_data.csv").write_text(text)
    return read_survival([read_table(tmp_path / "survival_data.csv")], names)


@pytest.mark.parametrize("edition", HEADERS)
def test_the_four_names_of_the_column_of_cases(edition: str, tmp_path: Path) -> None:
    row = "CASE_1,60.463,289,GTR" if edition != "2017" else "CASE_1,60.463,289"
    found, problems = read(tmp_path, f"{HEADERS[edition]}\n{row}\nOTHER,1,1,GTR\n", "Case_1", "Case_2")
    assert found == {"Case_1": Survival("289", "0", "60.463", "GTR" if edition != "2017" else "NA")}
    assert problems == []


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ("60,ALIVE (361 days later),GTR", Survival("361", "1", "60", "GTR")),
        ("60,alive (1 days later),STR", Survival("1", "1", "60", "STR")),
        ("60,NA,NA", Survival("", "", "60", "NA")),
        ("NA,12,", Survival("12", "0", "", "NA")),
        ("60,12", Survival("12", "0", "60", "NA")),
        ('"60,5",12.5,gtr', Survival("12.5", "0", "60.5", "GTR")),
    ],
)
def test_cells(cells: str, expected: Survival, tmp_path: Path) -> None:
    assert read(tmp_path, f"{HEADERS['2020']}\nA,{cells}\n", "A") == ({"A": expected}, [])


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("A,60,-3,GTR", "has the survival '-3', expected days or ALIVE (361 days later)"),
        ("A,60,nan,GTR", "has the survival 'nan'"),
        ("A,60,ALIVE,GTR", "has the survival 'ALIVE'"),
        ("A,old,3,GTR", "has the age 'old', expected years"),
        ("A,60,3,biopsy", "has the resection 'BIOPSY', expected GTR, STR, NA"),
        ("A,60,3,GTR\nA,60,4,GTR", "has two rows that differ"),
    ],
)
def test_cells_that_cannot_be_meant_are_problems_of_the_case(rows: str, said: str, tmp_path: Path) -> None:
    _, problems = read(tmp_path, f"{HEADERS['2020']}\n{rows}\n", "A")
    assert [(p.case, p.file) for p in problems] == [("A", "survival_data.csv")]
    assert said in problems[0].text


def test_the_same_row_twice_is_none(tmp_path: Path) -> None:
    assert read(tmp_path, f"{HEADERS['2020']}\nA,60,3,GTR\nA,60,3,GTR\n", "A")[1] == []


@pytest.mark.parametrize("header", ["Grade,BraTS_2019_subject_ID", "Age,Survival", "Brats20ID,Sex", ""])
def test_other_tables_are_none_of_survival(header: str, tmp_path: Path) -> None:
    assert read(tmp_path, f"{header}\nA,3,4,5\n", "A") == ({}, [])


@pytest.mark.parametrize(
    ("days", "censored", "expected"),
    [
        ("0", "0", "short"), ("299", "0", "short"), ("300", "0", "medium"), ("450", "0", "medium"),
        ("451", "0", "long"), ("361", "1", ""), ("450", "1", ""), ("451", "1", "long"), ("", "", ""),
    ],
)  # fmt: skip
def test_classes_of_survival(days: str, censored: str, expected: str) -> None:
    assert class_of(days, censored) == expected


TABLE = f"{HEADERS['2018']}\nBrats18_P01_1_1,60,299,GTR\nBrats18_P02_2_1,70.5,ALIVE (500 days later),NA\n"


def rows_in(folder: Path) -> list[dict[str, str]]:
    with (folder / "targets.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_converter_writes_targets(tree: Any, convert: Any, raw: Path, capsys: Any) -> None:
    source = tree("2018")
    (source / "survival_data.csv").write_text(TABLE)
    assert convert(source) == 0
    assert "survival_data.csv has survival, age or resection of 2 of 3 cases." in capsys.readouterr().out
    folder = raw / "Dataset501_BraTS2018"
    known = {"patient": "P01_1", "set": "train", "grade": "HGG", "survival_class": "short", "days": "299"}
    known |= {"censored": "0", "age": "60", "resection": "GTR"}
    assert rows_in(folder)[0] == {"case": "Brats18_P01_1_1", **known}
    targets = load_targets(folder)  # by the other reader
    assert [targets.encoded("grade", case) for case in targets.rows] == [1, 1, 0]
    assert [targets.observed("days", case) for case in targets.rows] == [True, False, False]
    assert targets.values("survival_class", targets.known("survival_class")).tolist() == [0, 2]
    assert list(targets.covariates) == ["age", "resection"]
    before = (folder / "targets.csv").stat().st_mtime_ns
    assert convert(source) == 0
    assert (folder / "targets.csv").stat().st_mtime_ns == before


def test_what_somebody_changed_stays_and_is_told(tree: Any, convert: Any, raw: Path, capsys: Any) -> None:
    source, folder = tree("2018"), raw / "Dataset501_BraTS2018"
    assert convert(source) == 0
    assert list(json.loads((folder / "targets.json").read_text())["columns"]) == ["grade"]
    (folder / "targets.json").write_text("mine")
    (source / "survival_data.csv").write_text(TABLE)
    assert convert(source) == 0
    assert (folder / "targets.json").read_text() == "mine"
    out = capsys.readouterr().out
    assert f"{folder / 'targets.json'} is not what the source says and stays" in out
    (folder / "targets.json").unlink()
    (folder / "targets.csv").unlink()
    assert convert(source) == 0
    assert len(load_targets(folder).columns) == 3


def test_bad_cells_are_refused_like_bad_images(tree: Any, convert: Any, raw: Path, capsys: Any) -> None:
    source = tree("2018")
    (source / "survival_data.csv").write_text(TABLE.replace("299", "soon"))
    assert convert(source) == 1
    out = capsys.readouterr().out
    assert "Brats18_P01_1_1: survival_data.csv has the survival 'soon'" in out
    assert not raw.exists()
    assert convert(source, "--skip-bad") == 0
    assert [row["case"] for row in rows_in(raw / "Dataset501_BraTS2018")] == ["Brats18_P02_2_1", "Brats18_P03_3_1"]


def test_cases_for_testing_are_named(tree: Any, convert: Any, raw: Path) -> None:
    assert convert(tree("2018"), "--test-fraction", "0.34") == 0
    folder = raw / "Dataset501_BraTS2018"
    kept = {path.name.removesuffix("_0000.nii.gz") for path in (folder / "imagesTs").glob("*_0000.nii.gz")}
    assert len(kept) == 1
    assert (folder / "targets.csv").exists() == (kept != {"Brats18_P03_3_1"})  # without the LGG there is one grade left
    if (folder / "targets.csv").exists():
        assert {row["case"] for row in rows_in(folder) if row["set"] == "test"} == kept


def test_no_targets_without_grades_and_survival(tree: Any, convert: Any, raw: Path) -> None:
    assert convert(tree("2021")) == 0
    assert not list((raw / "Dataset501_BraTS2021").glob("targets.*"))


def test_only_what_can_be_learnt_is_declared() -> None:
    row = {
        "set": "train",
        "grade": "HGG",
        "survival_class": "short",
        "days": "1",
        "censored": "1",
        "age": "",
        "resection": "",
    }
    rows = [row, {**row, "survival_class": "long", "days": "2"}, {**row, "set": "test", "grade": "LGG", "age": "60"}]
    assert list(schema_of(rows)["columns"]) == ["survival_class"]
    assert schema_of(rows)["covariates"] == {}
    rows[0] = {**row, "censored": "0", "age": "60"}
    assert list(schema_of(rows)["columns"]) == ["survival_class", "days"]
    assert list(schema_of(rows)["covariates"]) == ["age"]


@pytest.mark.data
def test_the_grades_of_the_real_cases(brats_data: Path, convert: Any, raw: Path) -> None:
    assert convert(brats_data / "BRATS2018") == 0
    targets = load_targets(raw / "Dataset501_BraTS2018")
    assert [targets.encoded("grade", case) for case in targets.rows] == [1, 1, 1, 1, 1, 0]
    assert list(targets.columns) == ["grade"]
