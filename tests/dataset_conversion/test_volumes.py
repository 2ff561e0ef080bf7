import gzip
import zlib
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from dataset_conversion.brats import volumes

CODECS = [zlib, pytest.param("isal.isal_zlib", id="isal")]


@pytest.fixture(params=CODECS)
def codec(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Each library that may be installed takes its turn."""
    module = pytest.importorskip(request.param) if isinstance(request.param, str) else request.param
    monkeypatch.setattr(volumes, "CODEC", import_module(module.__name__))
    return module


def packed(size: int) -> bytes:
    return gzip.compress(np.random.default_rng(0).bytes(size))


@pytest.mark.parametrize("sizes", [[0], [1], [70000], [70000, 5], [5, 70000], [70000, 0]])
def test_one_member_or_several(sizes: list[int], codec: ModuleType) -> None:
    data = b"".join(map(packed, sizes))
    assert volumes.unpack(data, Path("a.nii.gz")) == gzip.decompress(data)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[:-9],
        lambda data: data[: len(data) // 2],
        lambda data: data[:3],
        lambda data: data[:-8] + bytes([data[-8] ^ 1]) + data[-7:],
        lambda data: data[:-1] + bytes([data[-1] ^ 0x40]),
        lambda data: data[:100] + b"\xff" * 50 + data[150:],
    ],
)
def test_damage_is_seen(spoil: Any, codec: ModuleType) -> None:
    data = gzip.compress(b"".join(b"%d" % number for number in range(20000)))
    with pytest.raises(volumes.VolumeError, match="is damaged"):
        volumes.unpack(spoil(data), Path("a.nii.gz"))


@pytest.mark.parametrize("dtype", ["u1", "<i2", ">i2", "<f4", ">f4", "<f8", "<u2", "<i4"])
@pytest.mark.parametrize("scaling", [(None, None), (1, 0), (0.5, -3)])
def test_decoding_equals_nibabel(dtype: str, scaling: tuple[float | None, float | None], tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(0, 100, (3, 4, 5)).astype(dtype)
    header = nib.Nifti1Header(endianness=np.dtype(dtype).byteorder if dtype != "u1" else "<")
    header.set_data_dtype(dtype)
    image = nib.Nifti1Image(values, np.diag([-1, 2, 3, 1]), header)
    image.header.set_slope_inter(*scaling)
    nib.save(image, tmp_path / "a.nii")
    volume, there = volumes.read_volume(tmp_path / "a.nii"), nib.load(tmp_path / "a.nii")
    np.testing.assert_allclose(volume.values, there.get_fdata(), rtol=1e-6)
    np.testing.assert_array_equal(volume.affine, there.affine)
    assert volume.values.dtype.itemsize <= np.dtype(dtype).itemsize or scaling == (0.5, -3)


def test_labels_behind_an_extension_are_rewritten_in_place(tmp_path: Path) -> None:
    labels = np.random.default_rng(2).choice(np.array([0, 1, 2, 4], np.uint8), (5, 6, 7))
    image = nib.Nifti1Image(labels, np.diag([-1, -1, 2, 1]))
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"x" * 500))
    nib.save(image, tmp_path / "a.nii.gz")
    volumes.relabel(tmp_path / "a.nii.gz", tmp_path / "b.nii.gz", {0: 0, 1: 1, 2: 2, 4: 3})
    after = nib.load(tmp_path / "b.nii.gz")
    np.testing.assert_array_equal(np.asarray(after.dataobj), np.where(labels == 4, 3, labels))
    np.testing.assert_array_equal(after.affine, image.affine)
