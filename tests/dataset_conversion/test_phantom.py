import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import label

from dataset_conversion.brats.phantom import EDEMA, ENHANCING, NECROSIS, make_phantom, smooth_field
from dataset_conversion.commands.phantom import main

SHAPE = (24, 32, 28)
SPECK = 20  # voxels; noise may part fewer from a tumour
SCRIPT = Path(__file__).resolve().parents[2] / "dataset_conversion" / "phantom_brats.py"


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.nii.gz")}


def write(folder: Path, *options: str) -> dict[str, bytes]:
    assert main([str(folder), "--cases", "4", "--shape", "24", "32", "28", *options]) == 0
    return tree(folder)


def test_one_seed_gives_the_same_bytes_and_another_seed_another_brain(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a", "--seed", "3"), write(tmp_path / "b", "--seed", "3")
    other = write(tmp_path / "c", "--seed", "4")
    assert len(first) == 20
    assert first == second
    assert first.keys() == other.keys()
    assert all(first[name] != other[name] for name in first)


@pytest.mark.parametrize(
    ("edition", "files"),
    [
        ("2018", "MICCAI_BraTS_2018_Data_Training/{grade}/Brats18_PHANTOM_00{n}_1/Brats18_PHANTOM_00{n}_1_{m}.nii.gz"),
        ("2021", "BraTS2021_Training_Data/BraTS2021_9000{n}/BraTS2021_9000{n}_{m}.nii.gz"),
    ],
)
def test_layout_and_names_are_the_official_ones(tmp_path: Path, edition: str, files: str) -> None:
    contrasts = ("t1", "t1ce", "t2", "flair", "seg")
    grades = ("HGG", "HGG", "HGG", "LGG")
    expected = {files.format(grade=grade, n=n, m=m) for n, grade in enumerate(grades) for m in contrasts}
    assert write(tmp_path, "--edition", edition).keys() == expected


def test_files_are_as_brats_writes_them(tmp_path: Path) -> None:
    write(tmp_path)
    for path in tmp_path.rglob("*.nii.gz"):
        image = nib.load(path)
        assert image.shape == (28, 32, 24)
        assert image.header.get_data_dtype() == (np.uint8 if "_seg" in path.name else np.int16)
        assert image.affine.tolist() == [[-1, 0, 0, 0], [0, -1, 0, 31], [0, 0, 1, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize("index", range(9))
def test_brain_is_stripped_and_holds_the_tumour(index: int) -> None:
    images, labels, _ = make_phantom((32, 40, 36), 0, index)
    brain = images[0] != 0
    assert ((images != 0) == brain).all()
    assert 0.1 < brain.mean() < 0.5
    assert brain[labels > 0].all()
    assert 0.01 < (labels > 0).sum() / brain.sum() < 0.35
    assert set(np.unique(labels)) <= {0, NECROSIS, EDEMA, ENHANCING}


def test_kinds_of_tumours_follow_the_schedule() -> None:
    phantoms = [make_phantom((48, 48, 48), 1, index) for index in range(12)]
    assert [p.grade for p in phantoms].count("LGG") == 3
    assert [index for index, p in enumerate(phantoms) if ENHANCING not in p.labels] == [3, 11]


def test_one_tumour_of_three_is_multi_focal() -> None:
    def foci(index: int) -> int:
        cores, number = label(np.isin(make_phantom((64, 64, 64), 1, index).labels, (NECROSIS, ENHANCING)))
        return sum(np.count_nonzero(cores == one) > SPECK for one in range(1, number + 1))

    # the oedema of two foci may run together, their cores hardly ever
    found = [foci(index) for index in range(12)]
    assert all(found[index] == 1 for index in range(12) if index % 3 != 1), found
    assert sum(found[index] > 1 for index in range(12) if index % 3 == 1) >= 3, found


def test_contrasts_show_what_they_show_in_patients() -> None:
    images, labels, _ = make_phantom((64, 64, 64), 0, 2)
    t1, t1ce, t2, flair = images.astype(float) / [[[[np.median(image[image > 0])]]] for image in images]
    healthy = (labels == 0) & (t1 > 0)
    assert flair[labels == EDEMA].mean() > 1.5 * flair[healthy].mean()
    assert t2[labels == EDEMA].mean() > 1.3 * t2[healthy].mean()
    assert t1ce[labels == ENHANCING].mean() > 1.5 * t1ce[healthy].mean()
    assert t1ce[labels == NECROSIS].mean() < 0.7 * t1ce[healthy].mean()
    assert t1[labels == EDEMA].mean() < t1[healthy].mean()


def test_smooth_field_equals_its_obvious_form() -> None:
    shape, cells = (5, 4, 6), 3
    field = smooth_field(np.random.default_rng(0), shape, cells)
    values = np.random.default_rng(0).standard_normal((cells, cells, cells), dtype=np.float32)
    twin = np.zeros(shape)
    for voxel in np.ndindex(shape):
        weights = [
            np.exp(-((np.linspace(0, cells - 1, length)[at] - np.arange(cells)) ** 2))
            for length, at in zip(shape, voxel, strict=True)
        ]
        weights = [w / np.sqrt((w**2).sum()) for w in weights]
        twin[voxel] = np.einsum("abc,a,b,c->", values, *weights)
    np.testing.assert_allclose(field, twin, rtol=1e-4, atol=1e-5)


def test_script_runs_from_any_folder(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "out", "--cases", "1", "--shape", "16", "16", "16"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(tree(tmp_path)) == 5


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        (["--cases", "0"], "at least 1"),
        (["--shape", "8", "32", "32"], "16"),
        (["--seed", "-1"], "0 or more"),
    ],
)
def test_wrong_numbers_are_usage_errors(
    tmp_path: Path, options: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path / "out"), *options])
    assert hint in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_a_file_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").touch()
    assert main([str(tmp_path / "out"), "--cases", "1", "--shape", "16", "16", "16"]) == 2
    assert "give a folder that can be written" in capsys.readouterr().err
