"""A folder that is named like a case is a case: converted where that is unambiguous, else told, never skipped."""

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.dataset_conversion.test_convert import names, voxels

CASE = "BraTS2021_00002"


def folder_of(source: Path) -> Path:
    return next(source.rglob(CASE))


def wrap(path: Path, inner: str = "00000057_brain.nii.gz", ending: str = ".nii") -> Path:
    """Put a file into a folder of its own name, as a well-known copy of BraTS 2021 does."""
    data = path.read_bytes()
    path.unlink()
    folder = path.with_name(path.name.removesuffix(".nii.gz") + ending)
    folder.mkdir()
    data = gzip.decompress(data) if inner.endswith(".nii") else data
    (folder / inner).write_bytes(data)
    return folder


@pytest.mark.parametrize("kinds", [("seg",), ("flair", "t1", "t1ce", "t2", "seg")])
@pytest.mark.parametrize(
    ("inner", "ending"), [("00000057_brain.nii", ".nii"), ("a.nii.gz", ""), ("b.nii.gz", ".nii.gz")]
)
def test_modalities_that_are_folders(
    kinds: tuple[str, ...], inner: str, ending: str, tree: Any, convert: Any, raw: Path
) -> None:
    source = tree("2021")
    before = voxels(folder_of(source) / f"{CASE}_seg.nii.gz")
    for case in ("BraTS2021_00001", CASE, "BraTS2021_00003"):
        for kind in kinds:
            wrap(next(source.rglob(f"{case}_{kind}.nii.gz")), inner, ending)
    assert convert(source) == 0
    dataset = raw / "Dataset501_BraTS2021"
    assert len(names(dataset / "imagesTr")) == 12
    (label,) = (dataset / "labelsTr").glob(f"{CASE}.nii*")
    assert (voxels(label) == 3).sum() == (before == 4).sum() > 0


def test_a_file_in_a_folder_named_for_another_image_is_refused(tree: Any, convert: Any, capsys: Any) -> None:
    source = tree("2021")
    wrap(next(source.rglob(f"{CASE}_t1.nii.gz")), f"{CASE}_t2.nii.gz")
    (folder_of(source) / f"{CASE}_t2.nii.gz").unlink()
    assert convert(source) == 1
    assert f"{CASE}: {CASE}_t2.nii.gz lies in {CASE}_t1.nii, which is named for another image" in (
        capsys.readouterr().out
    )


def test_two_files_in_a_modalitys_folder_are_refused(tree: Any, convert: Any, capsys: Any) -> None:
    source = tree("2021")
    folder = wrap(next(source.rglob(f"{CASE}_t1.nii.gz")), "a.nii.gz")
    (folder / "b.nii.gz").write_bytes((folder / "a.nii.gz").read_bytes())
    assert convert(source) == 1
    assert f"{CASE}: t1 is there twice: a.nii.gz and b.nii.gz" in capsys.readouterr().out


def emptied(source: Path) -> None:
    for path in folder_of(source).iterdir():
        path.unlink()


def renamed_files(source: Path) -> None:
    for path in folder_of(source).iterdir():
        path.rename(path.with_name(path.name.removeprefix(f"{CASE}_")))


def packed_case(source: Path) -> None:
    emptied(source)
    folder_of(source).rmdir()
    (source / f"{CASE}.zip").write_bytes(b"PK")


def dangling_case(source: Path) -> None:
    emptied(source)
    folder_of(source).rmdir()
    (source / CASE).symlink_to("nowhere")


def empty_modality(source: Path) -> None:
    folder = wrap(next(source.rglob(f"{CASE}_t2.nii.gz")), "a.nii.gz")
    (folder / "a.nii.gz").unlink()


def empty_segmentations(source: Path) -> None:
    for path in list(source.rglob("*_seg.nii.gz")):
        folder = wrap(path, "a.nii.gz")
        (folder / "a.nii.gz").unlink()


def half_downloaded(source: Path) -> None:
    path = next(source.rglob(f"{CASE}_flair.nii.gz"))
    path.rename(path.with_name(path.name + ".part"))


def half_downloaded_archive(source: Path) -> None:
    emptied(source)
    folder_of(source).rmdir()
    (source / f"{CASE}.tar.gz.crdownload").touch()


LOST = {
    "empty folder": (emptied, f"{CASE} is empty"),
    "files of other names": (renamed_files, "has no file that is named as BraTS names the files of this case, but "),
    "archive": (packed_case, f"{CASE}.zip is not unpacked"),
    "unfinished archive": (half_downloaded_archive, f"{CASE}.tar.gz.crdownload is no folder"),
    "dangling link": (dangling_case, f"{CASE} is no folder"),
    "empty modality": (empty_modality, f"t2 is missing: {{}}{CASE}_t2.nii is a folder without a NIfTI file"),
    "empty segmentations": (empty_segmentations, f"seg is missing: {{}}{CASE}_seg.nii is a folder without a NIfTI"),
    "unfinished": (half_downloaded, f"flair is missing: {CASE}_flair.nii.gz.part is an unfinished download"),
}


@pytest.mark.parametrize("kind", LOST)
def test_a_case_that_yields_nothing_is_told(kind: str, tree: Any, convert: Any, raw: Path, capsys: Any) -> None:
    spoil, message = LOST[kind]
    source = tree("2021")
    here = f"{folder_of(source)}{os.sep}"
    spoil(source)
    assert convert(source) == 1
    output = capsys.readouterr().out
    line = next(line for line in output.splitlines() if line.startswith(f"  {CASE}: "))
    assert message.format(here) in line
    assert "; " in line
    assert not raw.exists()


@pytest.mark.parametrize("kind", ["empty folder", "archive"])
def test_with_skip_bad_it_is_listed(kind: str, tree: Any, convert: Any, raw: Path) -> None:
    source = tree("2021")
    LOST[kind][0](source)
    assert convert(source, "--skip-bad") == 0
    assert len(names(raw / "Dataset501_BraTS2021" / "labelsTr")) == 2
    assert (raw / "Dataset501_BraTS2021" / "skipped.csv").read_text().splitlines()[1].startswith(CASE)
    assert convert(source, "--skip-bad") == 0


def test_a_tree_of_nothing_but_lost_cases_tells_one(tmp_path: Path, convert: Any, capsys: Any) -> None:
    (tmp_path / "source" / CASE).mkdir(parents=True)
    assert convert(tmp_path / "source") == 1
    assert f"{CASE} is empty" in capsys.readouterr().err


def test_a_folder_that_cannot_be_read_is_told(
    tree: Any, convert: Any, raw: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tree("2021")
    locked = folder_of(source)
    scan = os.scandir

    def refuse(path: Any) -> Any:
        if path == str(locked):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    with monkeypatch.context() as patch:  # the superuser, who may run this, reads every folder
        patch.setattr(os, "scandir", refuse)
        assert convert(source) == 1
    assert f"{CASE}: {locked} cannot be read (Permission denied)" in capsys.readouterr().out
    assert not raw.exists()


def harmless_archive(source: Path) -> None:
    (source / "BraTS2021_Training_Data.tar").touch()


def leftovers(source: Path) -> None:
    (folder_of(source) / f"{CASE}_t1.nii.gz.part").touch()
    (source / "__MACOSX" / CASE).mkdir(parents=True)
    (source / "features" / CASE).mkdir(parents=True)


@pytest.mark.parametrize(("add", "told"), [(harmless_archive, "is an archive and was not opened"), (leftovers, "")])
def test_what_lies_beside_whole_cases_does_no_harm(
    add: Callable[[Path], None], told: str, tree: Any, convert: Any, capsys: Any
) -> None:
    source = tree("2021")
    add(source)
    assert convert(source) == 0
    assert told in capsys.readouterr().out
