"""Which sets are converted, which are refused by name, and what tells 2023 from 2024."""

import csv
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from dataset_conversion.brats.dataset import Options, dataset_json
from dataset_conversion.brats.editions import EDITIONS, Edition, edition_named, unsupported
from dataset_conversion.commands.restore import main as restore
from nnunet_ext.evaluation.regions import scheme_of_dataset
from tests.dataset_conversion.test_convert import names, voxels

REFUSED = {
    "BraTS-MEN": "BraTS-MEN-00004-000/BraTS-MEN-00004-000-t1c.nii.gz",
    "BraTS-MEN-RT": "BraTS-MEN-RT-0060-1/BraTS-MEN-RT-0060-1_t1c.nii.gz",
    "BraTS-MET": "BraTS-MET-00001-000/BraTS-MET-00001-000-seg.nii.gz",
    "BraTS-PED": "BraTS-PED-00002-000-t2w.nii",
    "BraTS-GoAT": "BraTS-GoAT-00000/BraTS-GoAT-00000-t1n.nii.gz",
    "FeTS": "FeTS2022_00000/FeTS2022_00000_flair.nii.gz",
    "BraTS 2012-2016": "HGG/brats_2013_pat0001_1/VSD.Brain.XX.O.MR_Flair.54512/VSD.Brain.XX.O.MR_Flair.54512.mha",
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("beside", ["alone", "beside a supported set"])
def test_a_set_of_another_task_is_refused_by_name(
    name: str, beside: str, tree: Any, convert: Any, raw: Path, capsys: Any
) -> None:
    source = tree("2021") if beside != "alone" else raw.parent / "source"
    file = source / REFUSED[name]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    assert convert(source) == 1
    assert capsys.readouterr().err.startswith(
        f"{name} is not supported; supported are BraTS2017, BraTS2018, BraTS2019, BraTS2020, BraTS2021, BraTS2023, "
        f"BraTS2023-SSA, BraTS2024-GLI. Found: "
    )
    assert not raw.exists()


@pytest.mark.parametrize(
    "name", [*map(lambda edition: edition.name, EDITIONS), "BraTS2021_Training_Data", "BraTS-PEDs"]
)
def test_what_is_supported_is_not_taken_for_another_set(name: str) -> None:
    assert unsupported(name) is None
    assert unsupported("BraTS-GLI-00000-000-t1n-voided.nii.gz") is None


@pytest.mark.parametrize(
    ("stem", "edition"),
    [
        ("Brats17_CBICA_AAB_1_t1ce", "BraTS2017"),
        ("BraTS-GLI-00000-000-t1n", "BraTS2023"),
        ("BraTS-GLI-00324-007-seg", "BraTS2023"),
        ("BraTS-GLI-00005-100-t2f", "BraTS2024-GLI"),
        ("BraTS-GLI-02193-104-seg", "BraTS2024-GLI"),
        ("BraTS-SSA-00002-000-t1c", "BraTS2023-SSA"),
    ],
)
def test_editions_by_name(stem: str, edition: str) -> None:
    assert [e.name for e in EDITIONS if e.parse(stem)] == [edition]


def renamed(source: Path, change: Any) -> Path:
    """Rename the tree of 2023's names: folders and files."""
    for folder in list(source.rglob("BraTS-GLI-*-000")):
        for path in list(folder.iterdir()):
            path.rename(path.with_name(path.name.replace(folder.name, change(folder.name))))
        folder.rename(folder.with_name(change(folder.name)))
    return source


def with_cavity(source: Path) -> None:
    path = sorted(source.rglob("*-seg.nii.gz"))[1]
    image = nib.load(path)
    values = np.asarray(image.dataobj).copy()
    values[:3, :3, :3] = 4
    nib.save(nib.Nifti1Image(values, image.affine), path)


def test_sub_saharan_africa_is_a_set_of_the_same_task(tree: Any, convert: Any, raw: Path) -> None:
    source = renamed(tree("2023"), lambda name: name.replace("GLI", "SSA"))
    assert convert(source) == 0
    dataset = json.loads((raw / "Dataset501_BraTS2023-SSA" / "dataset.json").read_text())
    assert dataset["labels"]["whole tumor"] == [1, 2, 3]
    assert dataset["edition"] == "BraTS2023-SSA"


def test_2017_is_a_set_of_the_same_task(tree: Any, convert: Any, raw: Path) -> None:
    source = tree("2018")
    for folder in list(source.rglob("Brats18_*_1")):
        for path in list(folder.iterdir()):
            path.rename(path.with_name(path.name.replace("Brats18", "Brats17")))
        folder.rename(folder.with_name(folder.name.replace("Brats18", "Brats17")))
    assert convert(source) == 0
    labels = raw / "Dataset501_BraTS2017" / "labelsTr"
    assert all(set(np.unique(voxels(path))) <= {0, 1, 2, 3} for path in labels.iterdir())


def test_after_treatment_the_cavity_is_a_label_and_a_region_of_its_own(
    tree: Any, convert: Any, raw: Path, tmp_path: Path, capsys: Any
) -> None:
    source = renamed(tree("2023"), lambda name: name[:-3] + "101")
    with_cavity(source)
    assert convert(source) == 0
    assert "name glioma cases alike" in (said := capsys.readouterr().out)
    assert "was taken for BraTS2024-GLI" in said
    folder = raw / "Dataset501_BraTS2024-GLI"
    dataset = json.loads((folder / "dataset.json").read_text())
    assert dataset["labels"] == {
        "background": 0, "whole tumor": [1, 2, 3], "tumor core": [1, 3], "enhancing tumor": [3], "resection cavity": [4]
    }  # fmt: skip
    manager = LabelManager(dataset["labels"], dataset["regions_class_order"])
    logits = np.full((4, 5, 1, 1), -9.0, np.float32)
    for region, inside in enumerate(([1, 2, 3], [1, 3], [3], [4])):
        logits[region, inside] = 9
    assert manager.convert_logits_to_segmentation(logits).ravel().tolist() == [0, 1, 2, 3, 4]
    with (folder / "cases.csv").open(newline="") as file:
        assert [row["voxels_4"] for row in csv.DictReader(file)] == ["0", "27", "0"]
    assert restore([str(folder / "labelsTr"), str(tmp_path / "out"), "--dataset", str(folder)]) == 0
    assert restore([str(folder / "labelsTr"), str(tmp_path / "by name")]) == 0
    name = "BraTS-GLI-00002-101.nii.gz"
    np.testing.assert_array_equal(voxels(tmp_path / "out" / name), voxels(folder / "labelsTr" / name))


@pytest.mark.parametrize("edition", EDITIONS, ids=lambda edition: edition.name)
@pytest.mark.parametrize("regions", [True, False])
def test_what_a_dataset_says_is_what_the_evaluation_reads(edition: Edition, regions: bool) -> None:
    options = Options(edition.name, True, regions, 0.0, None, ".nii.gz")
    scheme = scheme_of_dataset(dataset_json("Dataset501_X", edition, options, 3))
    assert scheme.classes == ("NCR", "ED", "ET", "RC")[: len(edition.ours)]


def test_plain_labels_after_treatment(tree: Any, convert: Any, raw: Path) -> None:
    assert convert(tree("2023"), "--edition", "2024-GLI", "--labels") == 0
    dataset = json.loads((raw / "Dataset501_BraTS2024-GLI" / "dataset.json").read_text())
    assert dataset["labels"]["resection cavity"] == 4


def test_shared_names_are_decided_by_the_user(tree: Any, convert: Any, raw: Path, capsys: Any) -> None:
    source = tree("2023")
    with_cavity(source)
    assert convert(source) == 1
    assert "--edition 2024-GLI" in capsys.readouterr().out
    assert convert(source, "--edition", "2024-GLI") == 0
    assert names(raw) == {"Dataset501_BraTS2024-GLI"}
    assert json.loads((raw / "Dataset501_BraTS2024-GLI" / "dataset.json").read_text())["edition"] == "BraTS2024-GLI"


def test_both_kinds_of_names_are_one_set_only_where_that_is_asked_for(tree: Any, convert: Any, capsys: Any) -> None:
    source = renamed(tree("2023"), lambda name: name.replace("-00002-000", "-00002-100"))
    assert convert(source) == 1
    assert "BraTS2023 (2 cases), BraTS2024-GLI (1 cases)" in capsys.readouterr().err
    assert convert(source, "--edition", "2024-GLI") == 0


@pytest.mark.parametrize(("edition", "code", "hint"), [("2021", 1, "asks for BraTS2021"), ("1999", 2, "is unknown")])
def test_another_edition_than_is_there(
    edition: str, code: int, hint: str, tree: Any, convert: Any, capsys: Any
) -> None:
    assert convert(tree("2018"), "--edition", edition) == code
    assert hint in capsys.readouterr().err
    assert edition_named("2024-gli").name == "BraTS2024-GLI"
