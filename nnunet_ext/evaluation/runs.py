"""Which trainings lie in nnU-Net's results folders, stock or ours, told from names and files."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_ext.evaluation.json_files import read_json

PREFIX = "nnUNetTrainer"
SEED = re.compile(r"_seed([0-9]+)$")
FOLD = re.compile(r"fold_([0-9]+|all)")
MODEL = re.compile(r"(?P<trainer>[^_].*?)__(?P<plans>.+?)__(?P<configuration>.+)")
VALIDATION, FINAL = "validation", "checkpoint_final.pth"
SUMMARY = "summary.json"
"""What nnU-Net's final validation writes last."""
OF_CASES = "case_metrics.csv"
"""What that of a case-level training writes last."""


@dataclass(frozen=True)
class Run:
    """One training: a fold of a model's folder.

    Attributes:
        method: what is compared: the trainer's name without nnU-Net's prefix and the seed, with plans and
            configuration where models differ in them.
        trainer, plans, configuration: as the folder's name says.
        seed: of the trainer's name, None where it has none.
        fold: as nnU-Net numbers it.
        folder: of the fold.
        dataset: name of the dataset's folder.
    """

    method: str
    trainer: str
    plans: str
    configuration: str
    seed: int | None
    fold: str
    folder: Path
    dataset: str

    @property
    def predictions(self) -> Path:
        """Where nnU-Net laid the fold's own predictions."""
        return self.folder / VALIDATION

    def finished(self, written: str = SUMMARY) -> bool:
        """Whether training and final validation are through: the validation writes this file last."""
        return (self.folder / FINAL).is_file() and (self.predictions / written).is_file()

    def recipe(self) -> dict[str, Any]:
        """What our trainers save beside the checkpoints; empty for others."""
        path = self.folder / "recipe.json"
        return read_json(path, "leave this training out, or restore the file") if path.is_file() else {}


@dataclass(frozen=True)
class Found:
    """All trainings below the folders, and those that are left out with the reason."""

    runs: tuple[Run, ...]
    left_out: Mapping[str, str]


def find_runs(folders: Sequence[Path], written: str = SUMMARY, several: bool = False) -> Found:
    """The finished trainings below results folders.

    Args:
        folders: ``nnUNet_results``, a dataset's folder in it, a model's, or a fold's.
        written: file that the final validation writes last; another kind of result than segmentations has its own.
        several: whether they may be of several datasets, whose names the methods' names have then.

    Raises:
        ValueError: a folder holds no training, or they are of several datasets and may not be.
    """
    models = {model.resolve(): model for folder in folders for model in _models(folder)}
    only = {folder.resolve() for folder in folders if FOLD.fullmatch(folder.name)}
    runs = [run for model in models for run in _runs_of(model) if not only or run.folder in only or model in only]
    datasets = sorted({run.dataset for run in runs})
    if len(datasets) > 1 and not several:
        raise ValueError(f"The trainings are of several datasets, {', '.join(datasets)}; compare those of one.")
    runs = _named(runs)
    unfinished = {str(run.folder): _unfinished(run, written) for run in runs if not run.finished(written)}
    return Found(tuple(run for run in runs if run.finished(written)), unfinished)


def _unfinished(run: Run, written: str) -> str:
    """Why a training is left out, in a clause."""
    if written == SUMMARY and (run.predictions / OF_CASES).is_file():
        return "its results are those of whole cases, see `nnunet_ext outcomes`"
    return f"the training or its final validation ({VALIDATION}/{written}) is not finished"


def _models(folder: Path) -> list[Path]:
    """Folders named as nnU-Net names those of trained models, at, above or below a folder."""
    if FOLD.fullmatch(folder.name) and MODEL.fullmatch(folder.resolve().parent.name):
        return [folder.resolve().parent]
    if MODEL.fullmatch(folder.resolve().name):
        return [folder]
    # two levels: nnUNet_results/Dataset/model
    found = [path for pattern in ("*__*__*", "*/*__*__*") for path in sorted(folder.glob(pattern)) if path.is_dir()]
    found = [path for path in found if MODEL.fullmatch(path.name) and any(path.glob("fold_*"))]
    if not found:
        raise ValueError(
            f"{folder} holds no trained model: expected a folder TRAINER__PLANS__CONFIGURATION with fold_0 ... in it, "
            f"or one that holds such folders."
        )
    return found


def _runs_of(model: Path) -> list[Run]:
    parts = MODEL.fullmatch(model.name)
    assert parts, model
    seed = SEED.search(parts["trainer"])
    return [
        Run(
            method=SEED.sub("", parts["trainer"]).removeprefix(f"{PREFIX}_"),
            trainer=parts["trainer"],
            plans=parts["plans"],
            configuration=parts["configuration"],
            seed=int(seed[1]) if seed else None,
            fold=matched[1],
            folder=folder,
            dataset=model.parent.name,
        )
        for folder in sorted(model.glob("fold_*"))
        if folder.is_dir() and (matched := FOLD.fullmatch(folder.name))
    ]


def _named(runs: Iterable[Run]) -> list[Run]:
    """Adds dataset, plans and configuration to the methods' names where the runs differ in them."""
    runs = list(runs)
    told = [part for part in ("dataset", "plans", "configuration") if len({getattr(run, part) for run in runs}) > 1]
    return [
        Run(**{**vars(run), "method": " ".join([run.method, *(getattr(run, part) for part in told)])}) for run in runs
    ]


def complete(runs: Sequence[Run]) -> Found:
    """The runs of which a comparison can be made: the folds that every method has, with as many seeds each.

    A seed of a method counts if it was trained on every common fold. What is left out is told.

    Raises:
        ValueError: there is no fold that all methods have.
    """
    of_method: dict[str, dict[int | None, dict[str, Run]]] = defaultdict(lambda: defaultdict(dict))
    for run in runs:
        of_method[run.method][run.seed][run.fold] = run
    folds = set.intersection(*({f for seed in seeds.values() for f in seed} for seeds in of_method.values()))
    if not folds:
        each = "; ".join(
            f"{m}: {', '.join(sorted({f for s in seeds.values() for f in s}))}" for m, seeds in of_method.items()
        )
        raise ValueError(f"No fold was trained with every method ({each}); train a common one, or name fewer methods.")
    whole = {
        method: {seed: by for seed, by in seeds.items() if folds <= by.keys()} for method, seeds in of_method.items()
    }
    if empty := [method for method, seeds in whole.items() if not seeds]:
        raise ValueError(
            f"{', '.join(empty)}: no seed was trained on all common folds ({', '.join(sorted(folds))}); train the "
            f"missing ones, or name fewer folders."
        )
    n_seeds = min(map(len, whole.values()))
    kept = [
        by[fold]
        for seeds in whole.values()
        for _, by in sorted(seeds.items(), key=lambda item: (item[0] is None, item[0] or 0))[:n_seeds]
        for fold in sorted(folds)
    ]
    chosen = {run.folder for run in kept}
    reason = f"not every method has this fold and {n_seeds} seed(s) with all folds {', '.join(sorted(folds))}"
    return Found(tuple(kept), {str(run.folder): reason for run in runs if run.folder not in chosen})
