"""The archive of a trained model: weights that are tensors and nothing else, and texts that say what they are.

A zip file with ``manifest.json`` (what the model is, and a SHA-256 of every other file), nnU-Net's ``plans.json`` and
``dataset.json``, and for each fold ``weights.safetensors``, ``checkpoint.json`` (what else prediction and people need)
and the ``recipe.json``. There is no pickle in it, so reading one cannot run code. Equal models give equal files.
"""

import hashlib
import json
import re
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nnunet_ext.whole import aside

FORMAT = 1
MANIFEST = "manifest.json"
WEIGHTS, FACTS, RECIPE = "weights.safetensors", "checkpoint.json", "recipe.json"
SHARED = ("plans.json", "dataset.json", "dataset_fingerprint.json")
OPTIONAL = ("dataset_fingerprint.json", RECIPE)
NAME = re.compile(r"[A-Za-z0-9_.-]+")  # of what becomes a folder: no separators
FACT_KEYS = ("trainer_name", "init_args", "inference_allowed_mirroring_axes", "current_epoch", "logging", "_best_ema")
MACHINE_ARGUMENT = "device"  # of init_args: where it was trained says nothing of the model


@dataclass(frozen=True)
class Model:
    """What a model is called: the parts of its folder's name in nnUNet_results.

    Attributes:
        dataset: ``Dataset501_BraTS``.
        trainer: the class that trained it.
        plans: ``nnUNetPlans``.
        configuration: ``3d_fullres``.
        folds: as nnU-Net names them, ``0`` or ``all``.
        checkpoint: file that the weights are of.
    """

    dataset: str
    trainer: str
    plans: str
    configuration: str
    folds: tuple[str, ...]
    checkpoint: str

    def folder(self, results: Path) -> Path:
        """The model's folder below nnUNet_results."""
        return results / self.dataset / f"{self.trainer}__{self.plans}__{self.configuration}"

    def names(self) -> set[str]:
        """All files that an archive of this model may hold, but for the manifest."""
        return {*SHARED, *(f"fold_{fold}/{name}" for fold in self.folds for name in (WEIGHTS, FACTS, RECIPE))}


def pack(model: Model, results: Path, versions: Mapping[str, str]) -> dict[str, bytes]:
    """The archive's files by name.

    Raises:
        ValueError: a file of the model is missing or cannot be read safely.
    """
    folder = model.folder(results)
    files = {name: _bytes(folder / name) for name in SHARED if name not in OPTIONAL or (folder / name).is_file()}
    for fold in model.folds:
        files |= {f"fold_{fold}/{name}": data for name, data in _fold(folder / f"fold_{fold}", model).items()}
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}
    manifest = {"format": FORMAT, **asdict(model), "versions": dict(versions), "sha256": sums}
    return {MANIFEST: _json(manifest), **files}


def _fold(folder: Path, model: Model) -> dict[str, bytes]:
    from safetensors.torch import save

    from nnunet_ext.trainers.checkpoints import plain
    from nnunet_ext.trainers.reading import read_safely

    content = read_safely(folder / model.checkpoint)
    weights = {name: value.detach().clone().contiguous() for name, value in content["network_weights"].items()}
    facts = {key: content.get(key) for key in FACT_KEYS}
    facts["init_args"] = {key: v for key, v in facts["init_args"].items() if key != MACHINE_ARGUMENT}
    recipe = {RECIPE: _bytes(folder / RECIPE)} if (folder / RECIPE).is_file() else {}
    return {WEIGHTS: save(weights), FACTS: _json(plain(facts)), **recipe}


def write(files: Mapping[str, bytes], path: Path) -> None:
    """Writes the archive beside ``path`` and then gives it the name."""
    with aside(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)  # without the clock of writestr


def read(path: Path) -> tuple[Model, dict[str, bytes]]:
    """The model and the checked files of an archive, the manifest left out.

    Raises:
        ValueError: no such archive, one of another format, or one whose files are not those of its manifest.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
        manifest = json.loads(files.pop(MANIFEST))
    except (OSError, zipfile.BadZipFile, KeyError, ValueError) as error:
        raise ValueError(f"{path} is no archive that `nnunet_ext export` wrote ({error}).") from error
    if manifest.get("format") != FORMAT:
        raise ValueError(f"{path} has the format {manifest.get('format')}, this version reads {FORMAT}; update it.")
    model = _model(manifest, path)
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    told: dict[str, str] = manifest.get("sha256") or {}
    if wrong := sorted(name for name in {*sums, *told} if sums.get(name) != told.get(name)):
        raise ValueError(f"{path} is damaged or was changed: {', '.join(wrong)} is not what its manifest says.")
    required = {name for name in model.names() if Path(name).name not in OPTIONAL}
    if not required <= files.keys() <= model.names():
        odd = sorted((required - files.keys()) | (files.keys() - model.names()))
        raise ValueError(f"{path} lacks files of a model or holds others: {', '.join(odd)}.")
    return model, files


def _model(manifest: Mapping[str, Any], path: Path) -> Model:
    fields: dict[str, Any] = {name: manifest.get(name) for name in Model.__dataclass_fields__}
    fields["folds"] = tuple(fields["folds"] or ())
    names = [*fields["folds"], *(value for key, value in fields.items() if key != "folds")]
    if not fields["folds"] or not all(isinstance(name, str) and NAME.fullmatch(name) for name in names):
        raise ValueError(f"{path} does not say which model it holds: {fields}.")
    return Model(**fields)


def checkpoint(files: Mapping[str, bytes], fold: str) -> dict[str, Any]:
    """What nnU-Net and our trainers read as a checkpoint: all but the optimiser's state."""
    import torch
    from safetensors.torch import load

    facts = json.loads(files[f"fold_{fold}/{FACTS}"])
    axes = facts["inference_allowed_mirroring_axes"]
    return {
        "network_weights": load(files[f"fold_{fold}/{WEIGHTS}"]),
        "optimizer_state": None,
        "grad_scaler_state": None,
        **facts,
        "init_args": {**facts["init_args"], MACHINE_ARGUMENT: torch.device("cpu")},
        "inference_allowed_mirroring_axes": None if axes is None else tuple(axes),
    }


def _bytes(path: Path) -> bytes:
    if not path.is_file():
        raise ValueError(f"There is no {path.name} in {path.parent}; is the model trained, and are its names right?")
    return path.read_bytes()


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()
