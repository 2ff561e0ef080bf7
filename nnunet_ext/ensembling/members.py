"""Which files are a model's: probabilities of its validation and of test cases, and what says what they mean."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from nnunet_ext.ensembling.probabilities import shape_of
from nnunet_ext.evaluation import reading
from nnunet_ext.evaluation.runs import FOLD, VALIDATION

DATASET, PLANS = "dataset.json", "plans.json"


@dataclass(frozen=True)
class Member:
    """One model of an ensemble.

    Attributes:
        name: unique in the ensemble; models are sorted by it, so that their order never matters.
        validation: case -> its probabilities (npz).
        folds: case -> the fold whose training did not see it; empty where the folders do not tell.
        test: case -> probabilities that are averaged, one file a folder of test predictions.
        described: the folder with the model's dataset.json and plans.json.
    """

    name: str
    validation: Mapping[str, Path]
    folds: Mapping[str, str]
    test: Mapping[str, tuple[Path, ...]]
    described: Path

    def json(self, name: str) -> dict[str, Any]:
        """Its dataset.json or plans.json."""
        found: dict[str, Any] = json.loads((self.described / name).read_text(encoding="utf-8"))
        return found


def member_of(validation: Path, tests: Sequence[Path], only: Sequence[str] = ()) -> Member:
    """The model whose validation and test predictions lie in these folders.

    Args:
        validation: a trained model's folder, all folds of which are joined, a fold's, or one with npz files.
        tests: folders of predictions of the test cases, which are averaged.
        only: folds of a trained model that are taken; all that were trained where it is empty.

    Raises:
        ValueError: there are no probabilities, or not of every case.
    """
    cases: dict[str, Path] = {}
    folds: dict[str, str] = {}
    for fold, folder in _validations(validation, only):
        for case, path in _files(folder).items():
            if case in cases:
                raise ValueError(f"{case} is in two validations, {cases[case].parent} and {folder}; name one of them.")
            cases[case] = path
            folds |= {case: fold} if fold else {}
    predicted = [_files(folder) for folder in tests]
    for folder, found in zip(tests, predicted, strict=True):
        _check_same(found, predicted[0], f"The predictions in {folder}", f"those in {tests[0]}")
    by_case = {case: tuple(found[case] for found in predicted) for case in (predicted[0] if predicted else ())}
    return Member(_name(validation), cases, folds, by_case, _described(validation))


def _validations(folder: Path, only: Sequence[str]) -> list[tuple[str, Path]]:
    """(Fold, folder with npz files)."""
    own = FOLD.fullmatch(folder.resolve().name) or FOLD.fullmatch(folder.resolve().parent.name)
    if (folder / VALIDATION).is_dir() or (folder.name == VALIDATION and own):
        found = [(own[1] if own else "", folder / VALIDATION if (folder / VALIDATION).is_dir() else folder)]
    else:
        below = sorted(path for path in folder.glob("fold_*") if FOLD.fullmatch(path.name) and path.is_dir())
        found = [(path.name.removeprefix("fold_"), path / VALIDATION) for path in below]
        found = [(fold, path) for fold, path in found if fold in only or not (only or fold == "all")]
        lacking = sorted(set(only) - {fold for fold, _ in found})
        if below and (lacking or not found):
            told = ", ".join(path.name for path in below)
            raise ValueError(
                f"{folder} has {told}, and not fold {', '.join(lacking) or 'numbers'}; name folds that it has."
            )
    if any(fold == "all" for fold, _ in found):
        raise ValueError(f"{folder}: fold_all is validated on cases that it was trained on; weights need others.")
    return found or [("", folder)]


def _files(folder: Path) -> dict[str, Path]:
    """Case -> npz; every label map of the folder must have one."""
    if not folder.is_dir():
        raise ValueError(f"{folder} does not exist; give a folder with nnU-Net's predictions.")
    found = {path.stem: path for path in sorted(folder.glob("*.npz")) if not path.name.startswith(".")}
    maps = {reading.stem(path) for path in folder.iterdir() if reading.is_image(path)}
    lacking = sorted(maps - set(found)) if found else ["every case"]
    if lacking:
        raise ValueError(
            f"{folder} has no probabilities (npz) of {_told(lacking)}; make them with nnUNetv2_train ... --val --npz,"
            " or nnUNetv2_predict --save_probabilities."
        )
    return found


def _name(validation: Path) -> str:
    parts = [part for part in validation.resolve().parts if part != VALIDATION]
    return "/".join(parts[-2:]) if FOLD.fullmatch(parts[-1]) else parts[-1]


def _described(validation: Path) -> Path:
    for place in (validation.resolve(), *validation.resolve().parents[:2]):
        if (place / DATASET).is_file() and (place / PLANS).is_file():
            return place
    raise ValueError(f"Neither {validation} nor the folders above it hold {DATASET} and {PLANS} of the model.")


def sorted_by_name(members: Iterable[Member]) -> list[Member]:
    """The models in the order in which everything is computed.

    Raises:
        ValueError: two have one name.
    """
    found = sorted(members, key=lambda member: member.name)
    for first, second in pairwise(found):
        if first.name == second.name:
            raise ValueError(f"Two models are named {first.name}; give each model once, in folders of different names.")
    return found


def check(members: Sequence[Member], heads: int) -> None:
    """Refuses (ValueError) models that cannot be averaged, and weights that would be chosen on test cases.

    Args:
        members: the models.
        heads: channels that the probabilities must have.
    """
    first = members[0]
    for member in members[1:]:
        _check_same(member.validation, first.validation, f"The validation of {member.name}", f"that of {first.name}")
        _check_same(member.test, first.test, f"The test predictions of {member.name}", f"those of {first.name}")
        for key in ("labels", "regions_class_order"):
            if member.json(DATASET).get(key) != first.json(DATASET).get(key):
                raise ValueError(
                    f"{member.name} and {first.name} have different {key} in their {DATASET}; models of one ensemble"
                    " segment the same regions."
                )
    both = sorted(set(first.validation) & set(first.test))
    if both:
        raise ValueError(
            f"{_told(both)}: among the test cases and among those on which the weights would be chosen; an ensemble is"
            " judged on other cases."
        )
    for case in (*first.validation, *first.test):
        _check_shapes(case, members, heads)


def _check_same(found: Iterable[str], expected: Iterable[str], one: str, other: str) -> None:
    lacking, more = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    if lacking:
        raise ValueError(f"{one} lacks {_told(lacking)}, which {other} has; every model must have every case.")
    if more:
        raise ValueError(f"{one} has {_told(more)}, which {other} lacks; every model must have every case.")


def _check_shapes(case: str, members: Sequence[Member], heads: int) -> None:
    paths = [p for member in members for p in (member.test.get(case) or (member.validation[case],))]
    expected = (heads, *shape_of(paths[0])[1:])
    for path in paths:
        shape = shape_of(path)
        if shape != expected:
            raise ValueError(
                f"{path} has the shape {_by(shape)} (channels, z, y, x), not {_by(expected)} as dataset.json and the"
                " other models have it; predict with models of one dataset."
            )


def folds_of(members: Sequence[Member]) -> dict[str, str]:
    """Case -> fold, where all models were trained on the same folds; else empty."""
    first = members[0].folds
    same = all(member.folds == first for member in members)
    return dict(first) if same and set(first) == set(members[0].validation) else {}


def _told(cases: Sequence[str]) -> str:
    return cases[0] if len(cases) == 1 else f"{cases[0]} and {len(cases) - 1} more"


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
