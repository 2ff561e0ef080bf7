"""What lies ready for an experiment in nnU-Net's folders: plans, preprocessed cases, splits, held-out images."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path
from typing import Any

from nnunet_ext.experiments.file import Sweep

SPLITS = "splits_final.json"
USUAL_FOLDS = 5  # of the splits that nnU-Net makes where there are none
INHERITS = "inherits_from"
CASE_ENDINGS = (".b2nd", ".npz")  # of nnU-Net's preprocessed cases
SEGMENTATION = "_seg"
TARGETS = "targets.csv"  # of the preprocessed dataset: the truth of case-level targets


@dataclass(frozen=True)
class TestSet:
    """Held-out images.

    Attributes:
        images: their folder.
        labels: folder of their segmentations, of case-level targets the table; None where there is none.
        tag: stands in the names of the folders of predictions.
    """

    images: Path
    labels: Path | None
    tag: str


@dataclass(frozen=True)
class Places:
    """The dataset of an experiment.

    Attributes:
        dataset: its name.
        preprocessed: its folder in nnUNet_preprocessed.
        results: its folder in nnUNet_results, which need not exist.
        raw: its folder in nnUNet_raw, None where there is none.
        plans: as read from their file.
        dataset_json: the dataset's description.
        splits: of the cases; None where nnU-Net has not made them yet.
    """

    dataset: str
    preprocessed: Path
    results: Path
    raw: Path | None
    plans: Mapping[str, Any]
    dataset_json: Mapping[str, Any]
    splits: list[dict[str, list[str]]] | None

    @classmethod
    def of(cls, folder: Path, plans: Mapping[str, Any]) -> "Places":
        """For a dataset's folder in nnUNet_preprocessed.

        Raises:
            ValueError: nnUNet_results is not set, or the folder lacks its dataset.json.
        """
        results, raw = os.environ.get("nnUNet_results"), os.environ.get("nnUNet_raw")
        if not results:
            raise ValueError("nnUNet_results is not set; `nnunet_ext env` tells how to set it.")
        splits = folder / SPLITS
        return cls(
            folder.name,
            folder,
            Path(results, folder.name),
            Path(raw, folder.name) if raw and Path(raw, folder.name).is_dir() else None,
            plans,
            _read(folder / "dataset.json"),
            _read(splits) if splits.is_file() else None,
        )

    def configuration(self, name: str) -> dict[str, Any]:
        """A configuration with what it inherits, as nnU-Net resolves it.

        Raises:
            ValueError: the plans have none of that name.
        """
        known = self.plans["configurations"]
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"nearest: {near[0]}" if near else f"they have {', '.join(known)}"
            raise ValueError(f"The plans {self.plans['plans_name']} have no configuration {name!r}; {hint}.")
        own = known[name]
        return {**self.configuration(own[INHERITS]), **own} if INHERITS in own else dict(own)

    def data(self, configuration: str) -> Path:
        """Folder of the preprocessed cases of a configuration."""
        return self.preprocessed / str(self.configuration(configuration)["data_identifier"])

    def model(self, trainer: str, plans: str, configuration: str) -> Path:
        """Where nnU-Net lays a trained model."""
        return self.results / f"{trainer}__{plans}__{configuration}"


def _read(path: Path) -> Any:
    if not path.is_file():
        raise ValueError(f"There is no {path}; run nnUNetv2_plan_and_preprocess first.")
    return json.loads(path.read_text(encoding="utf-8"))


def check_data(places: Places, configuration: str, folds: Iterable[int | str], number: int, plans: str) -> None:
    """Refuses what no training could begin with, by a ValueError.

    Args:
        places: of the dataset.
        configuration: that is trained.
        folds: that are trained.
        number: of the dataset, for the command that mends it.
        plans: their name, for the same.
    """
    data = places.data(configuration)
    cases = _cases(data)
    remedy = f"run nnUNetv2_preprocess -d {number} -plans_name {plans} -c {configuration}"
    if not cases:
        raise ValueError(f"{data} holds no preprocessed cases; {remedy}.")
    for fold in folds:
        if fold != "all" and (missing := sorted(_of_fold(places, int(fold)) - cases)):
            raise ValueError(f"Fold {fold} needs {len(missing)} cases that {data} lacks ({missing[0]} ...); {remedy}.")


def _cases(data: Path) -> set[str]:
    names = {path.name.removesuffix(path.suffix) for path in data.glob("*") if path.suffix in CASE_ENDINGS}
    return {name for name in names if not (name.endswith(SEGMENTATION) and name.removesuffix(SEGMENTATION) in names)}


def _of_fold(places: Places, fold: int) -> set[str]:
    """Cases of a fold of the splits; none is known before nnU-Net has made them."""
    count = USUAL_FOLDS if places.splits is None else len(places.splits)
    if fold >= count:
        have = "nnU-Net will make" if places.splits is None else f"{places.preprocessed / SPLITS} has"
        raise ValueError(
            f"There is no fold {fold}: {have} {count}, from 0 to {count - 1} (nnU-Net would train on a random split)."
        )
    return set() if places.splits is None else {case for part in places.splits[fold].values() for case in part}


def test_set(sweep: Sweep, places: Places, case_level: bool) -> TestSet | None:
    """The held-out images, or None.

    Args:
        sweep: the experiment.
        places: of its dataset.
        case_level: whether their truth is a table instead of a folder of segmentations.

    Raises:
        ValueError: a folder that was asked for does not exist or holds no image, or labels without images.
    """
    own = places.raw / "imagesTs" if places.raw else None
    if sweep.test == "none" or (sweep.test == "auto" and not (own and _holds_images(own, places))):
        if sweep.test_labels:
            raise ValueError("There are labels (test_labels) for no held-out images; name these with `test`.")
        return None
    images = own if sweep.test in ("auto", "imagesTs") else Path(sweep.test)
    if images is None or not _holds_images(images, places):
        raise ValueError(f"The folder of held-out images {images or sweep.test} does not exist or holds no image.")
    truth = _table(sweep, places, images, own) if case_level else _labels(sweep, images)
    return TestSet(images.absolute(), truth.absolute() if truth else None, _tag(images, own))


def _labels(sweep: Sweep, images: Path) -> Path | None:
    """Folder of segmentations of held-out images."""
    if sweep.test_labels and not Path(sweep.test_labels).is_dir():
        raise ValueError(f"There is no folder {sweep.test_labels} (test_labels).")
    beside = images.with_name("labelsTs")
    return Path(sweep.test_labels) if sweep.test_labels else beside if _holds_anything(beside) else None


def _holds_anything(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _table(sweep: Sweep, places: Places, images: Path, own_images: Path | None) -> Path | None:
    """Table with the targets and covariates of held-out images; the dataset's has rows of its own images alone."""
    if sweep.test_labels and not Path(sweep.test_labels).is_file():
        raise ValueError(f"There is no table {sweep.test_labels} (test_labels); name a {TARGETS}.")
    own = places.preprocessed / TARGETS
    fits = own.is_file() and own_images is not None and images.resolve() == own_images.resolve()
    return Path(sweep.test_labels) if sweep.test_labels else own if fits else None


def _holds_images(folder: Path, places: Places) -> bool:
    return folder.is_dir() and any(folder.glob(f"*_0000{places.dataset_json['file_ending']}"))


def _tag(images: Path, own: Path | None) -> str:
    """``imagesTs`` for the dataset's own; another folder's name with what tells it from others of that name."""
    if own and images.resolve() == own.resolve():
        return images.name
    return f"{images.resolve().name}-{sha256(str(images.resolve()).encode()).hexdigest()[:8]}"
