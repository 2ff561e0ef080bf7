"""Which files belong together: references and predictions as BraTS, nnU-Net and its users lay them down."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunet_ext.evaluation import reading, roi
from nnunet_ext.evaluation.cases import Pair
from nnunet_ext.evaluation.json_files import read_json
from nnunet_ext.evaluation.regions import Scheme, detect, scheme_of_dataset
from nnunet_ext.evaluation.runs import FOLD, MODEL, OF_CASES

SEGMENTATION = re.compile(r"[_-]seg$", re.IGNORECASE)
SAMPLE = 16
ALL, PREDICTED = "all", "predicted"


def files(folder: Path) -> dict[str, Path]:
    """Case -> file of the segmentations of a folder, or of a BraTS tree (``.../CASE/CASE_seg.nii.gz``).

    Raises:
        ValueError: there are none, or two of one case.
    """
    if folder.is_file():
        return {SEGMENTATION.sub("", reading.stem(folder)): folder}
    if not folder.is_dir():
        raise ValueError(f"{folder} does not exist; give a folder with segmentations, or one segmentation.")
    flat = [path for path in sorted(folder.iterdir()) if path.is_file() and reading.is_image(path)]
    tree = (path for path in sorted(folder.rglob("*")) if reading.is_image(path))
    found: dict[str, Path] = {}
    for path in flat or (path for path in tree if SEGMENTATION.search(reading.stem(path))):
        case = SEGMENTATION.sub("", reading.stem(path))
        if case in found:
            raise ValueError(f"{case} has two files, {found[case]} and {path}; leave one in the folder.")
        found[case] = path
    if not found:
        if (folder / OF_CASES).is_file():
            raise ValueError(f"{folder} holds predictions of whole cases, {OF_CASES}; use nnunet_ext outcomes.")
        known = ", ".join(reading.ENDINGS)
        raise ValueError(f"{folder} holds no segmentations ({known}), nor cases with ..._seg in folders below it.")
    return found


def references_of(folder: Path, predicted: Iterable[str]) -> dict[str, Path]:
    """Case -> file; of a raw dataset the set (labelsTr or labelsTs) to which the predicted cases belong."""
    sets = [folder / name for name in ("labelsTr", "labelsTs", "gt_segmentations") if (folder / name).is_dir()]
    if not sets:
        return files(folder)
    chosen = [files(path) for path in sets if any(path.iterdir())]
    return max(chosen, key=lambda found: len(set(found) & set(predicted)), default={}) or files(sets[0])


def predictions_of(folder: Path) -> Path:
    """The folder with the predictions: a fold's ``validation`` where the fold is given.

    Raises:
        ValueError: it is a trained model's folder, which holds several folds.
    """
    if (folder / "validation").is_dir():
        return folder / "validation"
    if FOLD.fullmatch(folder.name) and MODEL.fullmatch(folder.resolve().parent.name):
        raise ValueError(f"{folder} has no validation: its training is not finished; go on with it, or give --val.")
    folds = sorted(path.name for path in folder.glob("fold_*") if path.is_dir()) if folder.is_dir() else []
    if folds:
        raise ValueError(f"{folder} is a trained model with {', '.join(folds)}; give one, as {folder / folds[0]}.")
    return folder


def pairs_of(
    references: Mapping[str, Path], predictions: Mapping[str, Path], expected: Sequence[str] | None
) -> list[Pair]:
    """A pair for each expected case and for each prediction.

    Args:
        references: case -> file.
        predictions: case -> file.
        expected: cases that must be there; None for all references.

    Raises:
        ValueError: no case is in both.
    """
    wanted = sorted({*(references if expected is None else expected), *predictions})
    pairs = [_pair(case, references.get(case), predictions.get(case)) for case in wanted]
    if not any(pair.reference and pair.prediction for pair in pairs):
        some, other = next(iter(sorted(references))), next(iter(sorted(predictions)))
        raise ValueError(
            f"No case has both a reference and a prediction: the {len(references)} references are named as {some}, the"
            f" {len(predictions)} predictions as {other}; give folders with equal names."
        )
    return pairs


def _pair(case: str, reference: Path | None, prediction: Path | None) -> Pair:
    return Pair(case, reference, prediction, roi.report_beside(prediction, case) if prediction else None)


def expected_cases(choice: str, predictions: Path, predicted: Iterable[str]) -> list[str] | None:
    """The cases that ``--cases`` asks for; None for all references.

    Args:
        choice: ALL, PREDICTED, or a splits_final.json; empty for the split of a fold's ``validation``, else ALL.
        predictions: folder of the predictions; a split is that of the fold in its path.
        predicted: the cases in it.

    Raises:
        ValueError: the split is not found, or does not have the fold.
    """
    if choice == PREDICTED:
        return sorted(predicted)
    fold = next((part.removeprefix("fold_") for part in reversed(predictions.parts) if part.startswith("fold_")), "")
    if choice == ALL or (not choice and (not fold or predictions.name != "validation")):
        return None
    path = Path(choice) if choice else _splits_beside(predictions)
    if path is None or not path.is_file():
        where = path or "nnUNet_preprocessed (set the variable, or name the file with --cases)"
        raise ValueError(
            f"Which cases fold {fold} validates is in splits_final.json, which is not in {where}; --cases predicted"
            " takes what was predicted."
        )
    splits = read_json(path, "--cases predicted takes what was predicted", list)
    if fold == "all":
        return sorted({case for split in splits for case in split["val"]})
    if not fold.isdecimal() or int(fold) >= len(splits):
        raise ValueError(f"{path} has the folds 0 to {len(splits) - 1}; the predictions are of {fold or 'no fold'}.")
    return sorted(splits[int(fold)]["val"])


def _splits_beside(predictions: Path) -> Path | None:
    root = os.environ.get("nnUNet_preprocessed")
    dataset = next((part for part in predictions.resolve().parts if re.match(r"Dataset\d{3}_", part)), None)
    return Path(root, dataset, "splits_final.json") if root and dataset else None


def dataset_json_near(folder: Path) -> dict[str, Any] | None:
    """The dataset.json in a folder or one of the three above it, as nnU-Net lays it down; None if there is none."""
    folder = folder.parent if folder.is_file() else folder
    for place in (folder.resolve(), *folder.resolve().parents[:3]):
        path = place / "dataset.json"
        if path.is_file():
            return read_dataset_json(path)
    return None


def read_dataset_json(path: Path) -> dict[str, Any]:
    """A dataset.json; ValueError if it is none."""
    found: dict[str, Any] = read_json(path, "expected nnU-Net's dataset.json")
    return found


def scheme_of(folder: Path, found: Mapping[str, Path], like: Scheme | None = None) -> Scheme:
    """What the labels of a folder's files mean, from a dataset.json near it or from labels and names.

    Args:
        folder: where they are.
        found: case -> file.
        like: the other folder's scheme, which these files have as well if nothing speaks against it.

    Raises:
        ValueError: it cannot be told.
    """
    dataset = dataset_json_near(folder)
    if dataset is not None:
        return scheme_of_dataset(dataset)
    labels = sample_labels(list(found.values()))
    if like is not None and not like.foreign(labels):
        return like
    try:
        return detect(labels, found)
    except ValueError as error:
        raise ValueError(f"What the labels in {folder} mean cannot be told. {error}") from error


def sample_labels(paths: Sequence[Path]) -> set[int]:
    """The labels of some of the files, evenly chosen; what cannot be read is told when it is evaluated."""
    step = max(len(paths) // SAMPLE, 1)
    labels: set[int] = set()
    for path in paths[::step][:SAMPLE]:
        try:
            labels |= reading.labels_in(reading.read(path).labels)
        except reading.UnreadableError:
            continue  # evaluation reads the file again and makes a failure of it
    return labels
