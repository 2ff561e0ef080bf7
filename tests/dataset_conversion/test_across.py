"""What only a comparison of cases shows."""

import csv
import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from dataset_conversion.brats.across import find_duplicates, with_shared_patients
from dataset_conversion.brats.discovery import Case
from dataset_conversion.brats.record import Report
from tests.dataset_conversion.test_convert import names


def report(**scans: str) -> Report:
    return Report({}, "", [], [], scans, "")


def copy_case(source: Path, old: str, new: str, packed: bool = True) -> None:
    """The same scan under another name; packed again, so that its bytes are others."""
    folder = next(source.rglob(old))
    target = shutil.copytree(folder, folder.with_name(new))
    for path in list(target.iterdir()):
        data = path.read_bytes()
        path.with_name(path.name.replace(old, new)).write_bytes(
            gzip.compress(gzip.decompress(data), 9) if packed else data
        )
        path.unlink()


def test_the_same_scan_under_two_names_is_refused(tree: Any, convert: Any, raw: Path, capsys: Any) -> None:
    source = tree("2021")
    copy_case(source, "BraTS2021_00002", "BraTS2021_00007")
    assert convert(source) == 1
    assert "BraTS2021_00007: is the same scan as BraTS2021_00002; " in capsys.readouterr().out
    assert not raw.exists()
    assert convert(source, "--skip-bad") == 0
    assert len(names(raw / "Dataset501_BraTS2021" / "labelsTr")) == 3
    assert convert(source, "--skip-bad") == 0, "a second run finds the same"
    assert convert(source) == 1


@pytest.mark.parametrize("header", ["the same header", "another header"])
def test_one_modality_copied_over_another_is_refused(header: str, tree: Any, convert: Any, capsys: Any) -> None:
    source = tree("2018")
    t1, t1ce = (next(source.rglob(f"Brats18_P02_2_1_{kind}.nii.gz")) for kind in ("t1", "t1ce"))
    shutil.copy(t1, t1ce)
    if header == "another header":
        image = nib.load(t1)
        image.header["descrip"] = b"saved again"
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj), image.affine, image.header), t1ce)
    assert convert(source) == 1
    assert "Brats18_P02_2_1: t1ce has the same voxels as the case's t1; " in capsys.readouterr().out


def test_an_image_of_another_case_is_refused_in_both(tree: Any, convert: Any, capsys: Any) -> None:
    source = tree("2018")
    one, two = (next(source.rglob(f"Brats18_{case}_flair.nii.gz")) for case in ("P01_1_1", "P02_2_1"))
    shutil.copy(one, two)
    assert convert(source) == 1
    output = capsys.readouterr().out
    assert "Brats18_P01_1_1: flair has the same voxels as flair of Brats18_P02_2_1" in output
    assert "Brats18_P02_2_1: flair has the same voxels as flair of Brats18_P01_1_1" in output


def test_empty_segmentations_are_no_duplicates(tree: Any, convert: Any) -> None:
    source = tree("2018")
    for path in source.rglob("*_seg.nii.gz"):
        image = nib.load(path)
        nib.save(nib.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine), path)
    assert convert(source) == 0


def test_allowed_duplicates_are_on_one_side_of_every_split(tree: Any, convert: Any, raw: Path, capsys: Any) -> None:
    source = tree("2021")
    for number, old in enumerate(("BraTS2021_00001", "BraTS2021_00002", "BraTS2021_00003"), 7):
        copy_case(source, old, f"BraTS2021_0000{number}", packed=False)
    assert convert(source, "--allow-duplicates") == 0
    assert "BraTS2021_00007  is the same scan as BraTS2021_00001" in capsys.readouterr().out
    dataset = raw / "Dataset501_BraTS2021"
    splits = json.loads((dataset / "splits_final.json").read_text())
    assert len(splits) == 3, "three patients: leave-one-out"
    for split in splits:
        assert len(split["val"]) == 2
        assert int(split["val"][1][-1]) - int(split["val"][0][-1]) == 6
    with (dataset / "cases.csv").open(newline="") as file:
        assert [row["patient"][-1] for row in csv.DictReader(file)] == ["1", "2", "3", "7", "8", "9"]


def test_patients_are_joined_through_any_chain_of_shared_images() -> None:
    reports = {
        "a": report(t1="1", t2="2"),
        "b": report(t1="3", t2="4"),
        "c": report(t1="3", t2="1"),
        "d": report(t1="9", t2="8"),
    }
    cases = {name: Case(name, name.upper(), "") for name in reports}
    assert {name: case.patient for name, case in with_shared_patients(cases, reports).items()} == {
        "a": "A", "b": "A", "c": "A", "d": "D"
    }  # fmt: skip
    assert [problem.case for problem in find_duplicates(reports)] == ["a", "c", "b", "c"]
