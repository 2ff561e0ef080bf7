"""Everything once, in miniature: the same commands on three cases for two steps, in folders of their own."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from nnunet_ext.experiments.file import Sweep
from nnunet_ext.experiments.matrix import Matrix, detector_of, matrix_of
from nnunet_ext.experiments.methods import Method
from nnunet_ext.experiments.places import SPLITS, Places, TestSet
from nnunet_ext.experiments.tasks import Needs
from nnunet_ext.images.folder import cases_of
from nnunet_ext.trainers.grammar import parse
from nnunet_ext.trainers.naming import kind_of, legal_name, merged

REPLACED = {
    "warm-up",
    "frozen encoder",
    "unfrozen stages",
    "early stopping",
    "epochs",
    "iterations per epoch",
    "validation interval",
}
"""Kinds of words that a training of one epoch cannot have or does not need."""
PROBE_ITERATIONS = 3
SANITY, PROBE = ("1epochs", "iter2"), ("2epochs", f"iter{PROBE_ITERATIONS}")
FAST = "NoMirror"  # eight passes a tile would tell nothing more
SEED = 1
TRAINING_CASES = 2


@dataclass(frozen=True)
class Miniature:
    """The small form of an experiment.

    Attributes:
        methods: short form -> the methods that it stands for, the detector too.
        left_out: methods that have no short form.
        matrix: their commands.
        places: folders of theirs.
    """

    methods: Mapping[str, tuple[Method, ...]]
    left_out: tuple[Method, ...]
    matrix: Matrix
    places: Places


def short_form(method: Method, words: Iterable[str]) -> Method | None:
    """The same training for a few steps; None for a trainer without words, whose epochs cannot be told."""
    if method.parsed is None:
        return None
    spec = method.parsed.spec
    kept = [word for word in method.words if kind_of(spec, word) not in {*REPLACED, "seed"}]
    fast = () if any(kind_of(spec, word) == "augmentation" for word in kept) else (FAST,)
    name = legal_name(spec, merged(spec, [kept, fast, tuple(words)]))
    return Method(name, parse(name), tuple(name.split("_")[2:]), (SEED,))


@contextmanager
def miniature(
    sweep: Sweep,
    methods: Iterable[Method],
    places: Places,
    number: int,
    test: TestSet | None,
    needs: Mapping[str, Needs],
    environment: Mapping[str, str],
    words: tuple[str, ...] = SANITY,
) -> Iterator[Miniature]:
    """The commands, in a folder that is removed afterwards; nothing is written into nnU-Net's own folders.

    Args:
        sweep: the experiment.
        methods: its rows.
        places: of its dataset.
        number: of the dataset.
        test: held-out images, of which the first is predicted; None for a validation case of the dataset.
        needs: trainer's name without the seed -> what its commands need.
        environment: variables of all commands.
        words: how short the trainings are.
    """
    pairs = [(method, short_form(method, words)) for method in methods]
    shorts = {short.trainer: short for _, short in pairs if short}  # of trainings that differ in their length alone one
    detector = [detector_of(sweep)] if sweep.cascade else []
    pairs += [(method, short_form(method, words)) for method in detector]
    known: dict[str, tuple[Method, ...]] = {}
    for method, short in pairs:
        if short:
            known[short.trainer] = (*known.get(short.trainer, ()), method)
    case_level = any(short.case_level for short in shorts.values())
    with TemporaryDirectory(prefix="sanity_") as folder:
        root = Path(folder)
        small = _folders(root, places, test, sweep, case_level)
        variables = {"nnUNet_results": str(small.results.parent), "nnUNet_preprocessed": str(small.preprocessed.parent)}
        matrix = matrix_of(
            _small(sweep, root, test, words),
            shorts.values(),
            small,
            number,
            {name: needs[same[0].trainer] for name, same in known.items()},
            {**environment, **variables},
        )
        yield Miniature(known, tuple(method for method, short in pairs if not short), matrix, small)


def _small(sweep: Sweep, root: Path, test: TestSet | None, words: tuple[str, ...]) -> Sweep:
    """One seed, one fold, one image; the cascade with a detector that is as short."""
    cascade = sweep.cascade
    if cascade is not None:
        detector = short_form(detector_of(sweep), words)
        assert detector is not None
        cascade = replace(cascade, detector=detector.trainer)
    images = str(root / "images") if any((root / "images").iterdir()) else "none"
    return replace(
        sweep, seeds=(SEED,), folds=(0,), test=images, test_labels=None, mirroring=False, probabilities=False,
        cascade=cascade if images != "none" else None,
    )  # fmt: skip


def _folders(root: Path, places: Places, test: TestSet | None, sweep: Sweep, case_level: bool) -> Places:
    """A dataset of three cases, its files linked to the real ones.

    Case-level targets keep all training cases: two might be of one class, of which nothing can be learnt.
    """
    preprocessed = root / "preprocessed" / places.dataset
    preprocessed.mkdir(parents=True)
    for path in places.preprocessed.iterdir():
        if path.name != SPLITS:
            (preprocessed / path.name).symlink_to(path.resolve())
    splits = _splits(places, sweep, None if case_level else TRAINING_CASES)
    (preprocessed / SPLITS).write_text(json.dumps(splits), encoding="utf-8")
    _link_images(root / "images", _images(places, test, splits[0]["val"][0]))
    results = root / "results" / places.dataset
    results.mkdir(parents=True)
    return replace(places, preprocessed=preprocessed, results=results, splits=splits)


def _splits(places: Places, sweep: Sweep, training: int | None) -> list[dict[str, list[str]]]:
    """One fold with so many training cases (None for all of them) and one to validate with."""
    if places.splits:
        fold = places.splits[next((int(fold) for fold in sweep.folds if fold != "all"), 0)]
        return [{"train": fold["train"][:training], "val": fold["val"][:1]}]
    data = places.data(sweep.configuration)
    cases = sorted(path.stem for path in data.glob("*.pkl"))
    return [{"train": cases[:TRAINING_CASES], "val": cases[TRAINING_CASES : TRAINING_CASES + 1] or cases[:1]}]


def _images(places: Places, test: TestSet | None, case: str) -> list[Path]:
    """All channels of one case; none where there are no images."""
    ending = places.dataset_json["file_ending"]
    folder = test.images if test else places.raw / "imagesTr" if places.raw else None
    if folder is None:
        return []
    cases = cases_of(folder, ending) if any(folder.glob(f"*_0000{ending}")) else {}
    return next(iter(cases.values())) if test else cases.get(case, [])


def _link_images(folder: Path, images: Iterable[Path]) -> None:
    folder.mkdir()
    for image in images:
        os.symlink(image.resolve(), folder / image.name)
