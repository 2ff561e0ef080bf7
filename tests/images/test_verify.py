"""Image files that are whole, and those that are not."""

import gzip
import logging

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from nnunet_ext.images.folder import cases_of, check_channel_numbers
from nnunet_ext.images.verify import check_image


@pytest.fixture
def image(tmp_path):
    """A file of 12 x 10 x 8 voxels that does not compress."""
    path = tmp_path / "case_0000.nii.gz"
    values = np.random.default_rng(0).normal(size=(12, 10, 8)).astype(np.float32)
    nib.save(nib.Nifti1Image(values, np.eye(4)), path)
    return path


def test_whole_files_of_all_forms(image):
    raw = gzip.decompress(image.read_bytes())
    check_image(image)
    image.write_bytes(gzip.compress(raw[:500]) + gzip.compress(raw[500:]))  # as parallel compressors write them
    check_image(image)
    plain = image.with_name("case.nii")
    plain.write_bytes(raw)
    check_image(plain)
    nib.save(nib.Nifti2Image(np.zeros((2, 3, 4, 1), np.int16), np.eye(4)), plain)  # a fourth axis of one volume
    check_image(plain)
    other = image.with_name("case.mha")
    other.write_bytes(b"for its own reader")
    check_image(other)


def cut(data):
    return data[: len(data) // 2]


def changed(data):
    return data[:-20] + bytes([data[-20] ^ 1]) + data[-19:]


def without_checksum(data):
    return data[:-8] + b"\0\0\0\0" + data[-4:]


def short_of_voxels(data):
    return gzip.compress(gzip.decompress(data)[:-1])


def empty(data):
    return b""


def another_format(data):
    return gzip.compress(b"\x89PNG" * 200)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (cut, "is damaged or no NIfTI file"),
        (changed, "is damaged or no NIfTI file"),
        (without_checksum, "is damaged or no NIfTI file"),
        (short_of_voxels, "is cut short: its header promises 4192 bytes and 4191 are there"),
        (empty, "is damaged or no NIfTI file"),
        (another_format, "is damaged or no NIfTI file"),
        (gzip.decompress, "is damaged or no NIfTI file"),  # not compressed, against its name
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_damaged_files(image, damage, said):
    image.write_bytes(damage(image.read_bytes()))
    with pytest.raises(ValueError, match=said) as refused:
        check_image(image)
    assert str(image) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_the_check_is_for(image):
    """ITK, by which nnU-Net reads, says nothing."""
    whole = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(image)))
    image.write_bytes(cut(image.read_bytes()))
    read = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(image)))
    assert read.shape == whole.shape
    assert (read != whole).any()


def test_a_short_file_that_is_not_compressed(image):
    path = image.with_name("case.nii")
    path.write_bytes(gzip.decompress(image.read_bytes())[:-1])
    with pytest.raises(ValueError, match="is cut short"):
        check_image(path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="No such file"):
        check_image(tmp_path / "nowhere.nii.gz")


def test_four_axes(image):
    nib.save(nib.Nifti1Image(np.zeros((3, 4, 5, 2), np.float32), np.eye(4)), image)
    with pytest.raises(ValueError, match=r"is 4D \(3x4x5x2\); split it"):
        check_image(image)


def test_the_cases_of_a_folder(tmp_path, caplog):
    for name in ("b_0001", "b_0000", "a_1_0000", "a_seg", "._a_1_0000", "_0000", "x"):
        (tmp_path / f"{name}.nii.gz").touch()
    (tmp_path / "c_0000.nii.gz").mkdir()
    (tmp_path / "notes.txt").touch()
    with caplog.at_level(logging.WARNING):
        found = cases_of(tmp_path, ".nii.gz")
    assert {case: [path.name for path in files] for case, files in found.items()} == {
        "a_1": ["a_1_0000.nii.gz"],
        "b": ["b_0000.nii.gz", "b_0001.nii.gz"],
    }
    left_out = "._a_1_0000.nii.gz, _0000.nii.gz, a_seg.nii.gz, c_0000.nii.gz, x.nii.gz"
    assert caplog.text.rstrip().endswith(f"so left out: {left_out}.")


def test_a_folder_without_images(tmp_path):
    (tmp_path / "a_seg.nii.gz").touch()
    with pytest.raises(ValueError, match=r"holds no image CASE_0000\.nii\.gz"):
        cases_of(tmp_path, ".nii.gz")


def test_numbers_of_channels(tmp_path):
    check_channel_numbers([tmp_path / "a_0000.nrrd", tmp_path / "a_0001.nrrd"], ".nrrd")
    check_channel_numbers([tmp_path / "t1.nrrd", tmp_path / "t2.nrrd"], ".nrrd")  # a list of files may have any names
    with pytest.raises(ValueError, match="have the numbers 0000, 0002; expected are 0000 to 0001"):
        check_channel_numbers([tmp_path / "a_0000.nrrd", tmp_path / "a_0002.nrrd"], ".nrrd")
