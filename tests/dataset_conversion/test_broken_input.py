"""Kinds of broken input: each is told with case, file and remedy, exit code 1, and nothing is written."""

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import pytest

CASE = "Brats18_P02_2_1"


class Broken(NamedTuple):
    """What is done to the tree of an edition, the file to be named, and words of the message and of its remedy."""

    spoil: Callable[[Path], None]
    file: str
    message: str
    remedy: str
    edition: str = "2018"


def file_of(tree: Path, kind: str) -> Path:
    return next(tree.rglob(f"{CASE}_{kind}.nii.gz"))


def edited(kind: str, change: Callable[[np.ndarray], np.ndarray], affine: Any = None) -> Callable[[Path], None]:
    """A spoiler that changes the voxels, and perhaps the affine, of one file of the second case."""

    def spoil(tree: Path) -> None:
        path = file_of(tree, kind)
        image = nib.load(path)
        values = change(np.asarray(image.dataobj).copy())
        image = nib.Nifti1Image(values, image.affine if affine is None else affine)
        nib.save(image, path)

    return spoil


def with_voxel(value: float, dtype: type) -> Callable[[np.ndarray], np.ndarray]:
    def change(values: np.ndarray) -> np.ndarray:
        values = values.astype(dtype)
        values[5, 5, 5] = value
        return values

    return change


def rewritten(kind: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def spoil(tree: Path) -> None:
        path = file_of(tree, kind)
        path.write_bytes(change(path.read_bytes()))

    return spoil


def header_bytes(offset: int, data: bytes) -> Callable[[bytes], bytes]:
    """Overwrite a part of the NIfTI header."""

    def change(compressed: bytes) -> bytes:
        raw = bytearray(gzip.decompress(compressed))
        raw[offset : offset + len(data)] = data
        return gzip.compress(bytes(raw))

    return change


def broken_checksum(data: bytes) -> bytes:
    return data[:-8] + bytes([data[-8] ^ 1]) + data[-7:]


def moved(kind: str, name: str) -> Callable[[Path], None]:
    def spoil(tree: Path) -> None:
        path = file_of(tree, kind)
        path.rename(path.with_name(name))

    return spoil


def second_format(tree: Path) -> None:
    path = file_of(tree, "t2")
    path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))


def second_folder(tree: Path) -> None:
    folder = file_of(tree, "t1").parent
    shutil.copytree(folder, folder.parents[1] / "LGG" / folder.name)


def dangling_link(tree: Path) -> None:
    path = file_of(tree, "flair")
    path.unlink()
    path.symlink_to("nowhere.nii.gz")


def label_in_2023(tree: Path) -> None:
    path = next(tree.rglob("BraTS-GLI-00002-000-seg.nii.gz"))
    image = nib.load(path)
    nib.save(nib.Nifti1Image(with_voxel(4, np.uint8)(np.asarray(image.dataobj).copy()), image.affine), path)


def colour(values: np.ndarray) -> np.ndarray:
    return np.zeros(values.shape, [("R", "u1"), ("G", "u1"), ("B", "u1")])


def same(values: np.ndarray) -> np.ndarray:
    return values


BOX = np.array([[-1.0, 0, 0, 0], [0, -1, 0, 19], [0, 0, 1, 0], [0, 0, 0, 1]])
OBLIQUE = BOX @ np.array([[0.8, -0.6, 0, 0], [0.6, 0.8, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
NOT_A_NUMBER = np.float32(np.nan).tobytes()  # as the first entry of the sform
SHEARED = BOX + np.array([[0, 0.3, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])

BROKEN = {
    "modality missing": Broken(moved("t1ce", "notes.txt"), "t1ce", "is missing", f"add {CASE}_t1ce.nii.gz"),
    "modality misnamed": Broken(moved("t1ce", f"{CASE}_t1c.nii.gz"), "t1ce", "is missing", f"add {CASE}_t1ce"),
    "segmentation missing": Broken(lambda tree: file_of(tree, "seg").unlink(), "seg", "is missing", "convert training"),
    "modality twice": Broken(second_format, "t2", f"{CASE}_t2.nii and {CASE}_t2.nii.gz", "keep one"),
    "case twice": Broken(second_folder, "", "is there twice", "remove one of the folders"),
    "shape": Broken(edited("t2", lambda v: v[:-1]), "t2.nii.gz", "has the shape (17, 20, 16)", "resample"),
    "shape of the segmentation": Broken(edited("seg", lambda v: v[:, 1:]), "seg.nii.gz", "has the shape", "resample"),
    "spacing": Broken(edited("t1", same, BOX @ np.diag([1, 1, 2, 1])), "t1ce.nii.gz", "has the spacing", "resample"),
    "origin": Broken(edited("flair", same, BOX + np.eye(4, k=3)), "flair.nii.gz", "has the origin [1.0", "resample"),
    "direction": Broken(edited("t2", same, OBLIQUE), "t2.nii.gz", "has the direction", "resample"),
    "sheared": Broken(edited("t2", same, SHEARED), "t2.nii.gz", "not at right angles", "resample"),
    "no geometry": Broken(
        rewritten("t2", header_bytes(280, NOT_A_NUMBER)), "t2.nii.gz", "no valid geometry", "copy the header"
    ),
    "4D": Broken(edited("flair", lambda v: np.stack([v, v], -1)), "flair.nii.gz", "4 dimensions", "one volume"),
    "2D": Broken(edited("t1", lambda v: v[..., 8]), "t1.nii.gz", "2 dimensions", "one volume"),
    "NaN": Broken(edited("t1", with_voxel(np.nan, np.float32)), "t1.nii.gz", "NaN or infinite", "set them to 0"),
    "infinite": Broken(edited("t2", with_voxel(np.inf, np.float32)), "t2.nii.gz", "NaN or infinite", "set them to 0"),
    "all zero": Broken(edited("t1ce", np.zeros_like), "t1ce.nii.gz", "zero everywhere", "download or export"),
    "colour": Broken(edited("t1", colour), "t1.nii.gz", "no real numbers", "grey image"),
    "label 3 in 2018": Broken(edited("seg", with_voxel(3, np.int16)), "seg.nii.gz", "has the labels 3", "converted"),
    "label 4 in 2023": Broken(
        label_in_2023, "BraTS-GLI-00002-000-seg.nii.gz", "has the labels 4", "resection cavity", "2023"
    ),
    "unknown label": Broken(edited("seg", with_voxel(7, np.uint8)), "seg.nii.gz", "has the labels 7", "map them"),
    "negative label": Broken(edited("seg", with_voxel(-1, np.int16)), "seg.nii.gz", "has the labels -1", "map them"),
    "fraction as label": Broken(
        edited("seg", with_voxel(1.5, np.float32)), "seg.nii.gz", "no whole numbers, such as 1.5", "interpolation"
    ),
    "NaN as label": Broken(
        edited("seg", with_voxel(np.nan, np.float32)), "seg.nii.gz", "no whole numbers, such as nan", "interpolation"
    ),
    "scaled labels": Broken(
        rewritten("seg", header_bytes(112, np.float32(0.5).tobytes())), "seg.nii.gz", "its header scales", "scl_slope"
    ),
    "scale upside down": Broken(
        rewritten("t2", header_bytes(112, np.float32(-1).tobytes())), "t2.nii.gz", "negative scale", "export it again"
    ),
    "truncated": Broken(rewritten("t1", lambda data: data[:-200]), "t1.nii.gz", "is damaged (", "download"),
    "flipped bit": Broken(rewritten("flair", broken_checksum), "flair.nii.gz", "is damaged", "download"),
    "no gzip": Broken(rewritten("t2", lambda _: b"<html>404</html>"), "t2.nii.gz", "no gzip data", "download"),
    "not compressed": Broken(rewritten("t2", gzip.decompress), "t2.nii.gz", "no gzip data", "rename it"),
    "no NIfTI": Broken(rewritten("t2", lambda _: gzip.compress(b"x" * 999)), "t2.nii.gz", "no whole NIfTI", "download"),
    "data short": Broken(
        rewritten("t2", lambda data: gzip.compress(gzip.decompress(data)[:900])), "t2.nii.gz", "no whole NIfTI", "down"
    ),
    "unknown type of voxels": Broken(
        rewritten("t2", header_bytes(70, b"\x37\x13")), "t2.nii.gz", "no whole NIfTI", "down"
    ),
    "empty file": Broken(rewritten("seg", lambda _: b""), "seg.nii.gz", "is empty", "download"),
    "dangling link": Broken(dangling_link, "flair.nii.gz", "cannot be read", "check the link"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_is_told_and_nothing_is_written(kind: str, tree: Any, convert: Any, raw: Path, capsys: Any) -> None:
    broken = BROKEN[kind]
    source = tree(broken.edition)
    broken.spoil(source)
    assert convert(source) == 1
    output = capsys.readouterr().out
    case = CASE if broken.edition == "2018" else "BraTS-GLI-00002-000"
    line = next(line for line in output.splitlines() if line.startswith(f"  {case}: "))
    assert broken.file in line
    assert broken.message in line
    assert broken.remedy in line.partition("; ")[2]
    assert "Nothing was written. --skip-bad converts the other cases." in output
    assert not raw.exists()


def test_there_are_at_least_twenty_kinds() -> None:
    assert len(BROKEN) >= 20


def test_all_problems_are_collected(tree: Any, convert: Any, capsys: Any) -> None:
    source = tree()
    for kind in ("shape", "NaN", "label 3 in 2018"):
        BROKEN[kind].spoil(source)
    next(source.rglob("Brats18_P01_1_1_t1.nii.gz")).unlink()
    assert convert(source) == 1
    assert "4 problems in 2 cases:" in capsys.readouterr().out


def test_all_problems_of_one_case_are_collected(tree: Any, convert: Any, capsys: Any) -> None:
    source = tree()
    for kind in ("modality missing", "NaN", "label 3 in 2018", "shape", "origin"):
        BROKEN[kind].spoil(source)
    assert convert(source) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith(f"  {CASE}: ")]
    assert len(lines) == 5, lines
    for text in ("is missing", "NaN", "has the label", "has the shape", "has the origin"):
        assert sum(text in line for line in lines) == 1, text


def test_editions_are_never_mixed(tree: Any, convert: Any, raw: Path, capsys: Any) -> None:
    tree("2018")
    source = tree("2021").parent
    assert convert(source) == 1
    assert "BraTS2018 (3 cases), BraTS2021 (3 cases)" in capsys.readouterr().err
    assert not raw.exists()


def test_a_folder_without_cases_is_told_what_is_expected(tmp_path: Path, convert: Any, raw: Path, capsys: Any) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "T1.nii.gz").touch()
    assert convert(tmp_path / "source") == 1
    assert "T1.nii.gz is not" in capsys.readouterr().err
    assert not raw.exists()


@pytest.mark.parametrize("kind", ["modality missing", "case twice", "truncated", "label 3 in 2018"])
def test_skip_bad_converts_the_others_and_lists_the_bad(kind: str, tree: Any, convert: Any, raw: Path) -> None:
    source = tree()
    BROKEN[kind].spoil(source)
    assert convert(source, "--skip-bad") == 0
    dataset = raw / "Dataset501_BraTS2018"
    assert {path.name for path in (dataset / "labelsTr").iterdir()} == {
        "Brats18_P01_1_1.nii.gz",
        "Brats18_P03_3_1.nii.gz",
    }
    assert (dataset / "skipped.csv").read_text().splitlines()[1].startswith(CASE)
    assert CASE not in (dataset / "cases.csv").read_text()
    assert convert(source, "--skip-bad") == 0, "a second run finds the same"
    assert convert(source) == 1


def test_skip_bad_with_no_good_case_writes_nothing(tree: Any, convert: Any, raw: Path, capsys: Any) -> None:
    source = tree()
    for path in source.rglob("*_t1.nii.gz"):
        path.unlink()
    assert convert(source, "--skip-bad") == 1
    assert "Nothing was written.\n" in capsys.readouterr().out
    assert not raw.exists()
