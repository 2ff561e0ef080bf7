"""``nnunet_ext targets`` on raw datasets that hold names only: nothing is read of images."""

import json
from pathlib import Path
from typing import Any

import pytest

from nnunet_ext.cli import main
from nnunet_ext.outcomes.targets import load_targets

GRADE = {"kind": "class", "levels": ["LGG", "HGG"]}
SCHEMA: dict[str, Any] = {"columns": {"grade": GRADE}, "groups": ["patient"]}


class Raw:
    """A raw dataset of twelve cases of six patients, and two for testing."""

    def __init__(self, root: Path) -> None:
        self.raw, self.preprocessed = (root / kind / "Dataset501_Toy" for kind in ("raw", "preprocessed"))
        self.raw.mkdir(parents=True)
        self.rows = {f"c{i:02d}": ["train", f"p{i // 2}", ["LGG", "HGG"][i // 2 % 2]] for i in range(12)}
        self.rows |= {"t0": ["test", "q0", "LGG"], "t1": ["test", "q1", ""]}
        self.write()

    def write(
        self, schema: dict[str, Any] = SCHEMA, *, images: bool = True, header: str = "case,set,patient,grade"
    ) -> None:
        lines = [header, *(",".join([case, *cells]) for case, cells in self.rows.items())]
        (self.raw / "targets.csv").write_text("\n".join(lines) + "\n")
        (self.raw / "targets.json").write_text(json.dumps(schema))
        dataset = {"channel_names": {"0": "T1"}, "labels": {"background": 0}, "file_ending": ".nii.gz"}
        (self.raw / "dataset.json").write_text(json.dumps(dataset))
        (self.raw / "labelsTr").mkdir(exist_ok=True)
        for case in self.rows if images else ():
            self.image(case, "Ts" if case.startswith("t") else "Tr")

    def image(self, case: str, part: str = "Tr") -> None:
        path = self.raw / f"images{part}" / f"{case}_0000.nii.gz"
        path.parent.mkdir(exist_ok=True)
        path.touch()

    def splits(self) -> Any:
        return json.loads((self.preprocessed / "splits_final.json").read_text())


@pytest.fixture
def raw(tmp_path, monkeypatch) -> Raw:
    for kind in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{kind}", str(tmp_path / kind))
    return Raw(tmp_path)


def run(*options: str) -> int:
    return main(["targets", "-d", "501", *options])


def test_targets_are_copied_and_folds_made(raw, capsys):
    assert run("--folds", "3") == 0
    out = capsys.readouterr().out
    assert (raw.preprocessed / "targets.csv").read_text() == (raw.raw / "targets.csv").read_text()
    assert load_targets(raw.preprocessed) == load_targets(raw.raw)
    splits = raw.splits()
    assert [len(split["val"]) for split in splits] == [4, 4, 4]
    assert not any(case.startswith("t") for split in splits for cases in split.values() for case in cases)
    assert "grade   class  13     1        LGG 7, HGG 6" in out
    assert "14 cases of 8 patients, 2 of them for testing only" in out
    assert "made, stratified by grade" in out
    assert "0     8      4    2         LGG 2, HGG 2" in out
    assert "12 cases are few; the 95 % interval of an accuracy of 6 in 12 is 0.25 to 0.75 (Wilson)" in out
    assert sorted(path.name for path in raw.preprocessed.iterdir()) == [
        "splits_final.json",
        "targets.csv",
        "targets.json",
    ]
    assert not (raw.raw / "splits_final.json").exists()


def test_it_can_be_run_again(raw, capsys):
    assert run("--folds", "3") == 0
    before = raw.splits()
    assert run("--folds", "2") == 0
    assert raw.splits() == before
    assert (
        f"those of {raw.preprocessed / 'splits_final.json'} (3 of them; --new-splits makes 2)"
        in capsys.readouterr().out
    )


def test_what_no_training_uses_is_noted(raw, capsys):
    raw.rows = {case: [*cells, "" if case == "c03" else "50"] for case, cells in raw.rows.items()}
    raw.write({**SCHEMA, "covariates": {"age": {"coding": "z"}}}, header="case,set,patient,grade,age")
    (raw.raw / "splits_final.json").write_text(json.dumps([{"train": OWN[0]["train"][2:], "val": OWN[0]["val"]}]))
    run()
    out = capsys.readouterr().out
    assert "Note: 2 cases (c04, c05) are in no fold, so never used; --new-splits divides all cases." in out
    assert "Note: age is empty for 1 cases (c03), which trainings with Covariates refuse; fill the cells" in out


OWN = [{"train": [f"c{i:02d}" for i in range(4, 12)], "val": ["c00", "c01", "c02", "c03"]}]


@pytest.mark.parametrize("place", ["raw", "preprocessed"])
def test_own_folds_are_kept_unless_new_ones_are_asked_for(place, raw, capsys):
    folder = getattr(raw, place)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "splits_final.json").write_text(json.dumps(OWN))
    assert run() == 0
    assert raw.splits() == OWN
    assert run("--new-splits", "--folds", "3") == 0
    assert len(raw.splits()) == 3
    assert json.loads((folder / "splits_final.1.json").read_text()) == OWN
    assert "splits_final.1.json; models that were trained with them" in capsys.readouterr().out
    if place == "raw":  # nnU-Net's planner compares them
        assert json.loads((raw.raw / "splits_final.json").read_text()) == raw.splits()
    assert run("--new-splits", "--folds", "2") == 0
    assert json.loads((folder / "splits_final.1.json").read_text()) == OWN
    assert len(json.loads((folder / "splits_final.2.json").read_text())) == 3


def nothing_is_written(raw: Raw) -> bool:
    return not raw.preprocessed.exists() or not any(raw.preprocessed.iterdir())


def test_own_folds_that_part_a_patient_are_refused(raw, capsys):
    (raw.raw / "splits_final.json").write_text(json.dumps([{"train": ["c00"], "val": ["c01"]}]))
    assert run() == 2
    assert "fold 0 validates with c01 and trains with c00, which are of one patient" in capsys.readouterr().err
    assert nothing_is_written(raw)


def test_a_training_of_one_class_is_wrong_and_a_validation_of_one_is_a_note(raw, capsys):
    raw.rows = {case: [*cells[:2], "HGG" if case == "c00" else "LGG"] for case, cells in raw.rows.items()}
    raw.write()
    assert run("--folds", "3") == 1
    out = capsys.readouterr().out
    assert out.count("Wrong: grade in the training cases") == 1
    assert out.count("Note: grade in the validation cases") == 2
    assert len(raw.splits()) == 3


def spoil_cases(raw: Raw) -> None:
    raw.image("c99")


def spoil_rows(raw: Raw) -> None:
    raw.rows |= {"c77": ["", "p", "LGG"]}
    raw.write(images=False)


def spoil_set(raw: Raw) -> None:
    raw.rows["t0"][0] = ""
    raw.write()


def spoil_test(raw: Raw) -> None:
    raw.rows["c00"][0] = "test"
    raw.write()


def spoil_patient(raw: Raw) -> None:
    raw.rows["t0"][1] = "p3"
    raw.write()


def spoil_level(raw: Raw) -> None:
    raw.rows["c04"][2] = "IV"
    raw.write()


def spoil_classes(raw: Raw) -> None:
    raw.rows = {case: [*cells[:2], "HGG"] for case, cells in raw.rows.items()}
    raw.write()


def spoil_patients(raw: Raw) -> None:
    raw.rows = {case: [cells[0], "t" if case[0] == "t" else "p", cells[2]] for case, cells in raw.rows.items()}
    raw.write()


def spoil_inputs(raw: Raw) -> None:
    raw.write({**SCHEMA, "inputs": {"a": [0], "b": [1]}})


def spoil_dataset(raw: Raw) -> None:
    (raw.raw / "dataset.json").unlink()


def spoil_json(raw: Raw) -> None:
    (raw.raw / "dataset.json").write_text("{")


def spoil_kind(raw: Raw) -> None:
    raw.write({"columns": {"grade": {"kind": "rank", "levels": ["LGG", "HGG"]}}})


def spoil_splits(raw: Raw) -> None:
    (raw.raw / "splits_final.json").write_text("[")


def spoil_censoring(raw: Raw) -> None:
    raw.rows = {case: [cells[0], cells[1], str(i)] for i, (case, cells) in enumerate(raw.rows.items())}
    raw.rows = {case: [*cells, "1"] for case, cells in raw.rows.items()}
    raw.write({"columns": {"grade": {"kind": "survival", "censoring": "c"}}}, header="case,set,patient,grade,c")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (spoil_cases, "imagesTr has cases without a row in targets.csv; add rows, with empty cells if need be (c99)."),
        (spoil_rows, "targets.csv has rows of cases without images; remove the rows or add the images (c77)."),
        (spoil_set, "rows of cases in imagesTs whose set is not test; write test into that column (t0)."),
        (spoil_test, "rows of cases in imagesTr whose set is test; move the images or mend the rows (c00)."),
        (spoil_patient, "t0 is kept for testing and c07 is trained with, and both are of one patient"),
        (spoil_level, "case c04, column grade: 'IV' is no level, declared are LGG, HGG; mend the cell or the schema."),
        (spoil_classes, "grade in the training cases (12 of 12 known): all are HGG, and one class cannot be told"),
        (spoil_patients, "All 12 cases are of one patient, so no fold can be made"),
        (spoil_inputs, "input 'b' has the channel 1, and dataset.json has 0 to 0"),
        (spoil_dataset, "has no dataset.json"),
        (spoil_json, "is no JSON"),
        (spoil_kind, "kind 'rank'; known are class, ordinal, regression, survival"),
        (spoil_splits, "splits_final.json is no JSON"),
        (spoil_censoring, "all times are censored"),
    ],
)
def test_what_does_not_fit_is_one_sentence_and_nothing_is_written(spoil, said, raw, capsys):
    spoil(raw)
    assert run() == 2
    out, err = capsys.readouterr()
    assert said in err
    assert err.count("\n") == 1
    assert out == ""
    assert nothing_is_written(raw)


def test_no_such_dataset_or_folder(raw, monkeypatch, capsys):
    assert main(["targets", "-d", "777"]) == 2
    assert "holds 0 datasets 777" in capsys.readouterr().err
    monkeypatch.delenv("nnUNet_preprocessed")
    assert run() == 2
    assert "nnUNet_preprocessed is not set" in capsys.readouterr().err


def test_columns_that_nobody_declared_are_told(raw, capsys):
    raw.rows = {case: [*cells, "x"] for case, cells in raw.rows.items()}
    raw.write(header="case,set,patient,grade,note")
    assert run() == 0
    assert "Not declared in targets.json, so not used: note" in capsys.readouterr().out
