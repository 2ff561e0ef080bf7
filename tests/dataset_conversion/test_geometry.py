"""What a header tells nnU-Net's reader (SimpleITK) and nibabel, with headers that are made by hand.

pixdim, qform, sform and the unit can tell different stories; each row says which reader believes which.
"""

import gzip
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from dataset_conversion.brats.geometry import compare_readers, read_by_nibabel, read_by_nnunet
from dataset_conversion.brats.volumes import decode

KINDS = ("t1", "t1ce", "t2", "flair", "seg")
PLAIN = np.array([[-1.0, 0, 0, 0], [0, -1, 0, 19], [0, 0, 1, 0], [0, 0, 0, 1]])
MOVED = PLAIN + np.eye(4, k=3) * 7
TURNED = PLAIN @ np.array([[1, 0, 0, 0], [0, 0.8, -0.6, 0], [0, 0.6, 0.8, 0], [0, 0, 0, 1]])
Change = Callable[[Any], None]


def coded(qform: int, sform: int, other: np.ndarray = PLAIN) -> Change:
    """Both codes; the qform is the plain matrix, the sform another one."""

    def change(header: Any) -> None:
        header.set_qform(PLAIN, code=qform)
        header.set_sform(other, code=sform)

    return change


def twice_the_pixdim(header: Any) -> None:
    coded(0, 1)(header)
    header["pixdim"][1:4] = 2


def in_micrometres(header: Any) -> None:
    coded(1, 1)(header)
    header.set_xyzt_units("micron")


def in_metres(header: Any) -> None:
    coded(1, 1)(header)
    header.set_xyzt_units("meter")


def file_of(change: Change, shape: tuple[int, ...] = (4, 5, 6)) -> bytes:
    header = nib.Nifti1Image(np.zeros(shape, np.int16), PLAIN).header
    change(header)
    header["magic"], header["vox_offset"] = b"n+1", 352
    return bytes(header.binaryblock) + bytes(4) + np.arange(np.prod(shape), dtype=np.int16).tobytes()


def readings(change: Change) -> tuple[Any, Any]:
    raw = file_of(change)
    volume = decode(raw)
    return read_by_nnunet(raw, volume), read_by_nibabel(volume)


def rewrite(path: Path, change: Change) -> None:
    """Change the header of a file in a tree; its voxels stay."""
    raw = gzip.decompress(path.read_bytes())
    header = nib.Nifti1Header(raw[:348])
    change(header)
    path.write_bytes(gzip.compress(header.binaryblock + raw[348:]))


@pytest.mark.parametrize(
    ("change", "ours", "nibabels"),
    [(twice_the_pixdim, 2, 1), (in_micrometres, 0.001, 1), (in_metres, 1000, 1), (coded(0, 0), 1, 1)],
)
def test_spacing_of_both_readers(change: Change, ours: float, nibabels: float) -> None:
    here, there = readings(change)
    np.testing.assert_allclose(here.spacing, [ours] * 3, rtol=1e-6)
    np.testing.assert_allclose(there.spacing, [nibabels] * 3, rtol=1e-6)


@pytest.mark.parametrize(("qform", "sform"), itertools.product((0, 1, 2, 4), (0, 1, 2, 3, 4)))
def test_which_matrix_nnunet_reads(qform: int, sform: int) -> None:
    """The sform wins with code 1 or where the qform has none; nibabel takes it whenever it has a code."""
    here, there = readings(coded(qform, sform, MOVED))
    if not qform and not sform:
        assert here.origin.tolist() == [0, 0, 0]
        assert there.origin.tolist() == [1.5, -2, -2.5]
        return
    assert there.origin.tolist() == (MOVED if sform else PLAIN)[:3, 3].tolist()
    moved = sform == 1 or (sform and not qform)
    assert here.origin.tolist() == (MOVED if moved else PLAIN)[:3, 3].tolist()


@pytest.mark.parametrize(
    "change", [twice_the_pixdim, in_micrometres, coded(0, 0), coded(1, 2, MOVED), coded(2, 1, TURNED)]
)
def test_ours_is_the_reading_of_nnunet_itself(change: Change, tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_bytes(file_of(change))
    _, properties = SimpleITKIO().read_images([str(tmp_path / "a.nii")])
    here, _ = readings(change)
    np.testing.assert_allclose(here.spacing[::-1], properties["spacing"])
    flip = np.array([-1, -1, 1])
    np.testing.assert_allclose(here.origin, flip * properties["sitk_stuff"]["origin"])
    expected = flip[:, None] * np.reshape(properties["sitk_stuff"]["direction"], (3, 3))
    np.testing.assert_allclose(here.direction, expected)


def test_an_agreement_is_no_finding_and_a_place_is_a_warning() -> None:
    assert compare_readers(*readings(coded(1, 1))) == ([], [])
    assert compare_readers(*readings(coded(1, 1, TURNED))) == ([], [])
    problems, warnings = compare_readers(*readings(coded(1, 2, MOVED)))
    assert not problems
    (warning,) = warnings
    assert "the origin [0.0, 19.0, 0.0] for SimpleITK" in warning.text
    assert "[7.0, 19.0, 0.0] for nibabel" in warning.text


@pytest.mark.parametrize("which", ["one file", "all files"])
@pytest.mark.parametrize(
    ("change", "ours"), [(twice_the_pixdim, "[2.0, 2.0, 2.0]"), (in_micrometres, "[0.001, 0.001, 0.001]")]
)
def test_a_size_that_nnunet_alone_reads_is_refused(
    which: str, change: Change, ours: str, tree: Any, convert: Any, raw: Path, capsys: Any
) -> None:
    source = tree()
    for kind in KINDS if which == "all files" else ("t2",):
        rewrite(next(source.rglob(f"Brats18_P02_2_1_{kind}.nii.gz")), change)
    assert convert(source) == 1
    told = [line for line in capsys.readouterr().out.splitlines() if "for SimpleITK" in line]
    assert len(told) == (5 if which == "all files" else 1)
    assert all(ours in line and "[1.0, 1.0, 1.0] for nibabel" in line for line in told)
    assert not raw.exists()


@pytest.mark.parametrize(
    ("change", "kinds", "warned"),
    [
        (coded(0, 0), KINDS, "5 files"),
        (coded(1, 2, MOVED), ("t2",), "1 files has the origin [0.0, 19.0, 0.0] for SimpleITK"),
        (coded(1, 2, TURNED), ("t2",), "1 files has the direction"),
    ],
)
def test_no_alarm_where_nnunet_reads_identical_geometry(
    change: Change, kinds: tuple[str, ...], warned: str, tree: Any, convert: Any, capsys: Any
) -> None:
    """Both readings are told, and the case is converted: nnU-Net sees one geometry in all of its files."""
    source = tree()
    for kind in kinds:
        rewrite(next(source.rglob(f"Brats18_P02_2_1_{kind}.nii.gz")), change)
    assert convert(source) == 0
    assert f"Warning: {warned}" in capsys.readouterr().out
    assert convert(source) == 0
    assert f"Warning: {warned}" in capsys.readouterr().out, "a second run tells it as well"


def test_another_place_for_nnunet_alone_is_refused(tree: Any, convert: Any, capsys: Any) -> None:
    """nibabel takes the sform of both, SimpleITK the other's qform."""
    source = tree()
    for kind in KINDS:
        rewrite(next(source.rglob(f"Brats18_P02_2_1_{kind}.nii.gz")), coded(0, 2, MOVED))
    rewrite(next(source.rglob("Brats18_P02_2_1_flair.nii.gz")), coded(1, 2, MOVED))
    assert convert(source) == 1
    assert "flair.nii.gz has the origin [0.0, 19.0, 0.0], the case's first image [7.0, 19.0, 0.0]" in (
        capsys.readouterr().out
    )


def test_one_case_in_another_voxel_order_or_spacing_is_listed(tree: Any, convert: Any, capsys: Any) -> None:
    source = tree()
    turned = np.diag([1.0, -1, 1, 1])
    for kind in KINDS:
        for case, affine in {"Brats18_P02_2_1": turned, "Brats18_P03_3_1": PLAIN @ np.diag([1, 1, 2, 1])}.items():
            path = next(source.rglob(f"{case}_{kind}.nii.gz"))
            nib.save(nib.Nifti1Image(np.asarray(nib.load(path).dataobj), affine), path)
    assert convert(source) == 0
    lines = capsys.readouterr().out.splitlines()
    place = next(i for i, line in enumerate(lines) if "another voxel order or spacing" in line)
    assert "2 of 3 cases" in lines[place]
    assert "(LPS, 1 x 1 x 1 mm)" in lines[place]
    assert lines[place + 1 : place + 3] == [
        "  Brats18_P02_2_1: RPS, 1 x 1 x 1 mm",
        "  Brats18_P03_3_1: LPS, 1 x 1 x 2 mm",
    ]
