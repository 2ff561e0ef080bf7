"""What a conversion writes."""

import csv
import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from nnunetv2.utilities.label_handling.label_handling import LabelManager

KINDS = ("t1", "t1ce", "t2", "flair")
SCRIPT = Path(__file__).resolve().parents[2] / "dataset_conversion" / "convert_brats.py"


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def content(dataset: Path) -> dict[str, bytes]:
    return {str(path.relative_to(dataset)): path.read_bytes() for path in dataset.rglob("*") if path.is_file()}


EXPECTED = {
    "2018": ("Dataset501_BraTS2018", "Brats18_P02_2_1", "P02_2", "HGG"),
    "2019": ("Dataset501_BraTS2019", "BraTS19_P02_2_1", "P02_2", "HGG"),
    "2020": ("Dataset501_BraTS2020", "BraTS20_Training_002", "Training_002", ""),
    "2021": ("Dataset501_BraTS2021", "BraTS2021_00002", "00002", ""),
    "2023": ("Dataset501_BraTS2023", "BraTS-GLI-00002-000", "00002", ""),
}


@pytest.mark.parametrize("edition", EXPECTED)
def test_every_edition_becomes_the_same_dataset(edition: str, tree: Any, convert: Any, raw: Path) -> None:
    folder, case, patient, grade = EXPECTED[edition]
    source = tree(edition)
    assert convert(source) == 0
    dataset = raw / folder
    assert names(raw) == {folder}
    assert names(dataset) == {
        "imagesTr", "labelsTr", "cases.csv", "conversion.json", "dataset.json", "splits_final.json",
        *(("targets.csv", "targets.json") if grade else ()),
    }  # fmt: skip
    assert len(names(dataset / "imagesTr")) == 12
    separator, kinds = ("-", ("t1n", "t1c", "t2w", "t2f")) if edition == "2023" else ("_", KINDS)
    images = [next(source.rglob(f"{case}{separator}{kind}.nii.gz")) for kind in kinds]
    for channel, image in enumerate(images):
        assert (dataset / "imagesTr" / f"{case}_{channel:04d}.nii.gz").samefile(image)
    labels = voxels(next(source.rglob(f"{case}{separator}seg.nii.gz")))
    expected = np.where(labels == 4, 3, labels)
    np.testing.assert_array_equal(voxels(dataset / "labelsTr" / f"{case}.nii.gz"), expected)
    with (dataset / "cases.csv").open(newline="") as file:
        row = next(row for row in csv.DictReader(file) if row["case"] == case)
    assert (row["patient"], row["grade"], row["edition"], row["set"]) == (patient, grade, folder[11:], "Tr")
    assert [int(row[f"voxels_{label}"]) for label in (1, 2, 3)] == [np.sum(expected == label) for label in (1, 2, 3)]
    assert row["source"] == str(images[0].parent)
    assert len(row["checksum"]) == 64


def test_regions_are_what_nnunet_trains(tree: Any, convert: Any, raw: Path) -> None:
    assert convert(tree()) == 0
    dataset = json.loads((raw / "Dataset501_BraTS2018" / "dataset.json").read_text())
    assert dataset["channel_names"] == {"0": "T1", "1": "T1ce", "2": "T2", "3": "FLAIR"}
    assert list(dataset["labels"].items()) == [
        ("background", 0), ("whole tumor", [1, 2, 3]), ("tumor core", [1, 3]), ("enhancing tumor", [3])
    ]  # fmt: skip
    assert dataset["regions_class_order"] == [2, 1, 3]
    assert (dataset["numTraining"], dataset["file_ending"], dataset["edition"]) == (3, ".nii.gz", "BraTS2018")
    manager = LabelManager(dataset["labels"], dataset["regions_class_order"])
    logits = np.full((3, 4, 1, 1), -9.0, np.float32)
    for region, voxels_inside in enumerate(([1, 2, 3], [1, 3], [3])):
        logits[region, voxels_inside] = 9
    assert manager.convert_logits_to_segmentation(logits).ravel().tolist() == [0, 1, 2, 3]


def test_plain_labels_on_request(tree: Any, convert: Any, raw: Path) -> None:
    assert convert(tree(), "--labels", "--name", "Plain") == 0
    dataset = json.loads((raw / "Dataset501_Plain" / "dataset.json").read_text())
    assert dataset["labels"] == {"background": 0, "necrotic tumor core": 1, "edema": 2, "enhancing tumor": 3}
    assert "regions_class_order" not in dataset


def test_nothing_but_labels_changes_in_a_rewritten_label_map(tree: Any, convert: Any, raw: Path) -> None:
    source = tree()
    path = next(source.rglob("Brats18_P01_1_1_seg.nii.gz"))
    image = nib.load(path)
    image.set_qform(image.affine, code=2)
    image.set_sform(image.affine * 1.0000001, code=1)
    image.header["descrip"] = b"made by hand"
    nib.save(image, path)
    assert convert(source) == 0
    before = gzip.decompress(path.read_bytes())
    after = gzip.decompress((raw / "Dataset501_BraTS2018" / "labelsTr" / "Brats18_P01_1_1.nii.gz").read_bytes())
    assert len(after) == len(before)
    assert {(old, new) for old, new in zip(before, after, strict=True) if old != new} == {(4, 3)}


def test_label_maps_that_need_no_change_are_linked(tree: Any, convert: Any, raw: Path) -> None:
    source = tree("2023")
    assert convert(source) == 0
    labels = raw / "Dataset501_BraTS2023" / "labelsTr"
    for path in source.rglob("*-seg.nii.gz"):
        assert (labels / path.name.replace("-seg", "")).samefile(path)


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_label_maps_of_other_types_are_read_by_value(dtype: type, tree: Any, convert: Any, raw: Path) -> None:
    source = tree()
    path = next(source.rglob("Brats18_P01_1_1_seg.nii.gz"))
    before = voxels(path)
    image = nib.Nifti1Image(before.astype(dtype), nib.load(path).affine)
    image.header.set_slope_inter(1, 0)
    nib.save(image, path)
    assert convert(source) == 0
    after = voxels(raw / "Dataset501_BraTS2018" / "labelsTr" / "Brats18_P01_1_1.nii.gz")
    assert after.dtype == dtype
    np.testing.assert_array_equal(after, np.where(before == 4, 3, before))


def test_file_ending_follows_the_source(tree: Any, convert: Any, raw: Path) -> None:
    source = tree()
    for path in list(source.rglob("*.nii.gz")):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    assert convert(source) == 0
    dataset = raw / "Dataset501_BraTS2018"
    assert json.loads((dataset / "dataset.json").read_text())["file_ending"] == ".nii"
    assert all(name.endswith("_0000.nii") for name in names(dataset / "imagesTr") if "_0000" in name)
    assert (dataset / "imagesTr" / "Brats18_P01_1_1_0000.nii").samefile(next(source.rglob("*P01_1_1_t1.nii")))


def test_a_mixed_tree_is_compressed_into_one(tree: Any, convert: Any, raw: Path, capsys: Any) -> None:
    source = tree()
    for kind in ("t1ce", "seg"):
        path = next(source.rglob(f"Brats18_P01_1_1_{kind}.nii.gz"))
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    assert convert(source) == 0
    assert capsys.readouterr().out.count("mixes .nii and .nii.gz") == 1
    dataset = raw / "Dataset501_BraTS2018"
    assert all(name.endswith(".nii.gz") for folder in ("imagesTr", "labelsTr") for name in names(dataset / folder))
    packed = (dataset / "imagesTr" / "Brats18_P01_1_1_0001.nii.gz").read_bytes()
    assert gzip.decompress(packed) == next(source.rglob("Brats18_P01_1_1_t1ce.nii")).read_bytes()


def test_a_tree_without_segmentation_becomes_an_input_folder(tree: Any, convert: Any, raw: Path, capsys: Any) -> None:
    source = tree("2021")
    for path in source.rglob("*_seg.nii.gz"):
        path.unlink()
    assert convert(source) == 0
    dataset = raw / "Dataset501_BraTS2021Input"
    assert names(dataset) == {"imagesTs", "cases.csv", "conversion.json"}
    assert len(names(dataset / "imagesTs")) == 12
    assert "nnUNetv2_predict -i" in capsys.readouterr().out
    assert convert(source) == 0
    assert "is complete" in capsys.readouterr().out


def test_test_cases_go_to_their_own_folders(tree: Any, convert: Any, raw: Path) -> None:
    assert convert(tree(), "--test-fraction", "0.34") == 0
    dataset = raw / "Dataset501_BraTS2018"
    assert [len(names(dataset / folder)) for folder in ("imagesTr", "labelsTr", "imagesTs", "labelsTs")] == [8, 2, 4, 1]
    assert json.loads((dataset / "dataset.json").read_text())["numTraining"] == 2
    held_out = names(dataset / "labelsTs").pop().removesuffix(".nii.gz")
    assert held_out not in (dataset / "splits_final.json").read_text()


def test_few_patients_are_left_out_one_by_one(tree: Any, convert: Any, raw: Path, capsys: Any) -> None:
    assert convert(tree()) == 0
    splits = json.loads((raw / "Dataset501_BraTS2018" / "splits_final.json").read_text())
    assert sorted(split["val"] for split in splits) == [[f"Brats18_P0{n}_{n}_1"] for n in (1, 2, 3)]
    assert "leave-one-out" in capsys.readouterr().out


# --- clipping


def clipped(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """The obvious form: sort the non-zero voxels, take the first that has so many per cent at or below it."""
    inside = np.sort(values[values != 0])
    floor, ceiling = (inside[max(0, int(np.ceil(len(inside) * percent / 100)) - 1)] for percent in (low, high))
    result = values.copy()
    for voxel in np.argwhere(values != 0):
        result[tuple(voxel)] = min(max(values[tuple(voxel)], floor), ceiling)
    return result


def test_clipping_equals_its_obvious_form_and_like_repeats_it(tree: Any, convert: Any, raw: Path) -> None:
    source = tree()
    assert convert(source, "--clip-percentiles", "2", "95") == 0
    training = raw / "Dataset501_BraTS2018"
    assert json.loads((training / "dataset.json").read_text())["clip_percentiles"] == [2, 95]
    for channel, kind in enumerate(KINDS):
        before = voxels(next(source.rglob(f"Brats18_P02_2_1_{kind}.nii.gz")))
        after = voxels(training / "imagesTr" / f"Brats18_P02_2_1_{channel:04d}.nii.gz")
        assert after.dtype == before.dtype
        np.testing.assert_array_equal(after, clipped(before, 2, 95))
        assert (after != before).any()
    for path in source.rglob("*_seg.nii.gz"):
        path.unlink()
    (raw.parent / "model").mkdir()
    shutil.copy(training / "dataset.json", raw.parent / "model")
    likes = ("501", "Dataset501_BraTS2018", str(training), str(raw.parent / "model"))
    for dataset, like in enumerate(likes, 601):
        assert convert(source, "--like", like, dataset=dataset) == 0
        images = raw / f"Dataset{dataset}_BraTS2018Input" / "imagesTs"
        assert {path.name: path.read_bytes() for path in images.iterdir()} == {
            path.name: path.read_bytes() for path in (training / "imagesTr").iterdir()
        }


def test_like_brings_the_file_ending_that_nnunet_will_look_for(tree: Any, convert: Any, raw: Path) -> None:
    source = tree()
    assert convert(source) == 0
    for path in list(source.rglob("*.nii.gz")):
        if "_seg" not in path.name:
            path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    assert convert(source, "--like", "501", dataset=502) == 0
    there, here = (raw / folder for folder in ("Dataset501_BraTS2018/imagesTr", "Dataset502_BraTS2018Input/imagesTs"))
    assert names(here) == names(there)
    assert all((voxels(here / name) == voxels(there / name)).all() for name in names(there))


@pytest.mark.parametrize(
    ("channels", "hint"), [(None, "give a dataset's number"), ({"0": "T1ce", "1": "FLAIR"}, "has the channels T1ce, F")]
)
def test_like_an_unknown_or_foreign_dataset_is_refused(
    channels: Any, hint: str, tree: Any, convert: Any, raw: Path, capsys: Any
) -> None:
    if channels:
        (raw / "Dataset007_Other").mkdir(parents=True)
        (raw / "Dataset007_Other" / "dataset.json").write_text(json.dumps({"channel_names": channels}))
    assert convert(tree(), "--like", "7") == 2
    assert hint in capsys.readouterr().err
    assert not list(raw.glob("Dataset501*"))


@pytest.mark.parametrize(("text", "hint"), [("{", "dataset.json is no readable JSON"), ("{}", "has the channels none")])
def test_like_a_spoilt_dataset_is_refused(
    text: str, hint: str, tree: Any, convert: Any, raw: Path, capsys: Any
) -> None:
    (raw / "Dataset007_Other").mkdir(parents=True)
    (raw / "Dataset007_Other" / "dataset.json").write_text(text)
    assert convert(tree(), "--like", "7") == 2
    assert hint in capsys.readouterr().err


# --- links and copies


def refuse(*_: Any, **__: Any) -> None:
    raise PermissionError(1, "Operation not permitted")


@pytest.mark.parametrize("asked", [True, False])
def test_copies_where_links_fail_or_copies_are_asked_for(
    asked: bool, tree: Any, convert: Any, raw: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tree()
    if not asked:
        monkeypatch.setattr(os, "link", refuse)
    assert convert(source, *(["--copy"] if asked else [])) == 0
    assert capsys.readouterr().out.count("files were copied") == (0 if asked else 1)
    image = next(source.rglob("Brats18_P01_1_1_t1.nii.gz"))
    copy = raw / "Dataset501_BraTS2018" / "imagesTr" / "Brats18_P01_1_1_0000.nii.gz"
    assert copy.read_bytes() == image.read_bytes()
    assert not copy.samefile(image)
    stamp = copy.stat().st_ino
    assert convert(source) == 0, "a second run takes the copies as they are"
    assert copy.stat().st_ino == stamp


def test_links_in_the_source_are_followed(tree: Any, convert: Any, raw: Path, tmp_path: Path) -> None:
    source = tree("2021")
    (tmp_path / "links").mkdir()
    for folder in (source / "BraTS2021_Training_Data").iterdir():
        (tmp_path / "links" / folder.name).symlink_to(folder)
    (tmp_path / "links" / "BraTS2021_00001" / "loop").symlink_to(tmp_path / "links")
    assert convert(tmp_path / "links") == 0
    image = raw / "Dataset501_BraTS2021" / "imagesTr" / "BraTS2021_00001_0000.nii.gz"
    assert image.is_file()
    assert not image.is_symlink()


# --- quirks of the editions


def test_2020_grades_come_from_the_table_and_case_355_has_its_segmentation(tree: Any, convert: Any, raw: Path) -> None:
    source = tree("2020")
    folder = next(source.rglob("BraTS20_Training_003"))
    for path in folder.iterdir():
        kind = path.name.removeprefix("BraTS20_Training_003_")
        odd = kind == "seg.nii.gz"
        path.rename(path.with_name("W39_1998.09.19_Segm.nii.gz" if odd else f"BraTS20_Training_355_{kind}"))
    folder = folder.rename(folder.with_name("BraTS20_Training_355"))
    rows = (
        "Grade,BraTS_2018_subject_ID,BraTS_2020_subject_ID\nHGG,NA,BraTS20_Training_001\nLGG,X,BraTS20_Training_355\n"
    )
    (folder.parent / "name_mapping.csv").write_text(rows)
    assert convert(source) == 0
    with (raw / "Dataset501_BraTS2020" / "cases.csv").open(newline="") as file:
        grades = {row["case"]: row["grade"] for row in csv.DictReader(file)}
    assert grades == {"BraTS20_Training_001": "HGG", "BraTS20_Training_002": "", "BraTS20_Training_355": "LGG"}


def test_what_is_no_case_is_left_out_and_shadows_are_not_mentioned(tree: Any, convert: Any, capsys: Any) -> None:
    source = tree()
    (source / "._Brats18_P01_1_1_t1.nii.gz").write_bytes(b"shadow of macOS")
    (source / "survival_data.csv").write_text("BraTS18ID,Age\n")
    assert convert(source, dataset=501) == 0
    assert "left out" not in capsys.readouterr().out
    (source / "atlas.nii.gz").touch()
    assert convert(source, "--name", "Other", dataset=502) == 0
    assert "1 NIfTI files, such as atlas.nii.gz" in capsys.readouterr().out


# --- threads, real data


def test_script_with_two_threads_writes_the_same_from_any_folder(tree: Any, convert: Any, raw: Path) -> None:
    source = tree()
    command = [sys.executable, str(SCRIPT), str(source), "--dataset-id", "501", "--jobs", "2"]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "audit: 100%" in done.stderr
    assert convert(source, "--name", "Other", dataset=502) == 0
    parallel, serial = content(raw / "Dataset501_BraTS2018"), content(raw / "Dataset502_Other")
    assert parallel.pop("dataset.json") != serial.pop("dataset.json"), "the names differ"
    assert parallel == serial


@pytest.mark.data
@pytest.mark.parametrize(
    ("edition", "cases", "case"), [("2018", 6, "Brats18_2013_2_1"), ("2021", 4, "BraTS2021_01478")]
)
def test_real_cases(edition: str, cases: int, case: str, brats_data: Path, convert: Any, raw: Path) -> None:
    assert convert(brats_data / f"BRATS{edition}") == 0
    dataset = raw / f"Dataset501_BraTS{edition}"
    assert len(names(dataset / "labelsTr")) == cases
    before, after = (next(folder.rglob(name)) for folder, name in (
        (brats_data, f"{case}_seg.nii.gz"), (dataset, f"{case}.nii.gz")
    ))  # fmt: skip
    np.testing.assert_array_equal(voxels(after), np.where(voxels(before) == 4, 3, voxels(before)))
    np.testing.assert_array_equal(nib.load(after).affine, nib.load(before).affine)
