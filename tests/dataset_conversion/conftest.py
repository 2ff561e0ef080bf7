"""Tiny BraTS trees, and the converter started in a raw folder of the test's own."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dataset_conversion.brats.phantom import make_phantom
from dataset_conversion.brats.phantom_tree import write_case
from dataset_conversion.commands import convert as command

SHAPE = (16, 20, 18)
NAMES = {
    "2018": "MICCAI_BraTS_2018_Data_Training/{grade}/Brats18_P{n:02d}_{n}_1",
    "2019": "MICCAI_BraTS_2019_Data_Training/{grade}/BraTS19_P{n:02d}_{n}_1",
    "2020": "MICCAI_BraTS2020_TrainingData/BraTS20_Training_{n:03d}",
    "2021": "BraTS2021_Training_Data/BraTS2021_{n:05d}",
    "2023": "ASNR-MICCAI-BraTS2023-GLI-Challenge-TrainingData/BraTS-GLI-{n:05d}-000",
}
KINDS_OF_2023 = {"t1": "t1n", "t1ce": "t1c", "t2": "t2w", "flair": "t2f", "seg": "seg"}


def rename_to_2023(folder: Path) -> None:
    """Names as of 2023; the label of enhancing tumour is left to the caller."""
    for kind, new in KINDS_OF_2023.items():
        (folder / f"{folder.name}_{kind}.nii.gz").rename(folder / f"{folder.name}-{new}.nii.gz")


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One tree of three cases for each edition up to 2021 and of 2023's names; three patients: 1, 2 HGG, 3 LGG."""
    root = tmp_path_factory.mktemp("phantoms")
    for number in (1, 2, 3):
        phantom = make_phantom(SHAPE, 0, number)
        for edition, name in NAMES.items():
            folder = root / edition / name.format(grade="LGG" if number == 3 else "HGG", n=number)
            if edition == "2023":
                phantom.labels[phantom.labels == 4] = 3
            write_case(phantom, folder)
            if edition == "2023":
                rename_to_2023(folder)
    return root


@pytest.fixture
def tree(phantoms: Path, tmp_path: Path) -> Callable[[str], Path]:
    """A copy of an edition's tree that the test may spoil."""

    def make(edition: str = "2018") -> Path:
        return shutil.copytree(phantoms / edition, tmp_path / "source" / edition)

    return make


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """nnU-Net's raw folder, which does not exist yet; its other folders are set beside it."""
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, str(tmp_path / name))
    return tmp_path / "nnUNet_raw"


@pytest.fixture
def convert(raw: Path) -> Callable[..., int]:
    """Run the converter in this process; dataset 501 unless told otherwise."""

    def run(source: Path, *options: str, dataset: int = 501, jobs: int = 1) -> int:
        return command.main([str(source), "--dataset-id", str(dataset), "--jobs", str(jobs), *options])

    return run
