"""Tables of grades and survival as spreadsheets save them."""

import csv
from pathlib import Path
from typing import Any

import pytest

from dataset_conversion.brats.tables import read_table

TABLE = (
    "Grade,BraTS_2019_subject_ID,BraTS_2020_subject_ID\nHGG,NA,BraTS20_Training_001\nLGG,Älter,BraTS20_Training_002\n"
)
WAYS = {
    "as published": TABLE.encode(),
    "with a mark": TABLE.encode("utf-8-sig"),
    "Latin-1": TABLE.encode("latin-1"),
    "UTF-16": TABLE.encode("utf-16"),
    "semicolons": TABLE.replace(",", ";").encode(),
    "tabs": TABLE.replace(",", "\t").encode("utf-16"),
    "lower case": TABLE.lower().encode(),
    "surplus cells": TABLE.replace("001\n", "001,extra,more\n").encode(),
    "missing cells": (TABLE + "HGG\n\n,\n").encode(),
    "blanks and old line ends": TABLE.replace(",", " , ").replace("\n", "\r\n").encode(),
    "quoted": TABLE.replace("HGG", '"HGG"').encode(),
}


@pytest.mark.parametrize("way", WAYS)
def test_grades_are_read_however_the_table_was_saved(way: str, tree: Any, convert: Any, raw: Path) -> None:
    source = tree("2020")
    (source / "name_mapping.csv").write_bytes(WAYS[way])
    assert convert(source) == 0
    with (raw / "Dataset501_BraTS2020" / "cases.csv").open(newline="") as file:
        assert [row["grade"] for row in csv.DictReader(file)] == ["HGG", "LGG", ""]


@pytest.mark.parametrize(
    "content",
    [b"", b"\n\n", b"Grade,Name\n", b"Grade,Name\nII,BraTS20_Training_001\n", TABLE.replace("20_", "19_").encode()],
)
def test_a_table_without_grades_of_these_cases_is_told(content: bytes, tree: Any, convert: Any, capsys: Any) -> None:
    source = tree("2020")
    (source / "name_mapping.csv").write_bytes(content)
    assert convert(source) == 0
    assert f"No grades found in {source / 'name_mapping.csv'}" in capsys.readouterr().out


def test_a_survival_table_without_its_columns_is_told_and_stays(tree: Any, convert: Any, capsys: Any) -> None:
    source = tree("2018")
    (source / "survival_data.csv").write_bytes("Name,Sex\nBrats18_P02_2_1,\xff\n".encode("latin-1"))
    assert convert(source) == 0
    assert "survival_data.csv has rows of 1 of 3 cases and stays where it is." in capsys.readouterr().out


def test_folders_of_grades_in_lower_case(tree: Any, convert: Any, raw: Path) -> None:
    source = tree("2018")
    for folder in list(source.rglob("?GG")):
        folder.rename(folder.with_name(folder.name.lower()))
    assert convert(source) == 0
    with (raw / "Dataset501_BraTS2018" / "cases.csv").open(newline="") as file:
        assert [row["grade"] for row in csv.DictReader(file)] == ["HGG", "HGG", "LGG"]


def test_the_alias_of_case_355_in_lower_case(tree: Any, convert: Any, raw: Path) -> None:
    source = tree("2020")
    folder = next(source.rglob("BraTS20_Training_003"))
    for path in folder.iterdir():
        kind = path.name.removeprefix("BraTS20_Training_003_")
        path.rename(
            path.with_name("w39_1998.09.19_segm.nii.gz" if kind == "seg.nii.gz" else f"BraTS20_Training_355_{kind}")
        )
    folder.rename(folder.with_name("BraTS20_Training_355"))
    assert convert(source) == 0
    assert (raw / "Dataset501_BraTS2020" / "labelsTr" / "BraTS20_Training_355.nii.gz").is_file()


def test_utf_16_without_a_mark_is_read_as_far_as_it_is_ascii(tmp_path: Path) -> None:
    (tmp_path / "name_mapping.csv").write_bytes("Grade;Name\nLGG;a\n".encode("utf-16-le"))
    assert read_table(tmp_path / "name_mapping.csv").grades() == {"a": "LGG", "lgg": "LGG"}
