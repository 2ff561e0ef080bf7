"""A trained case-level model, read from nnU-Net's results folder: from raw images to a row for each target column."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import Tensor

from nnunet_ext.networks.case import CaseNetwork
from nnunet_ext.networks.tasks import CASE_LEVEL
from nnunet_ext.outcomes import results
from nnunet_ext.outcomes.building import as_trained, build_case_network, declared_in
from nnunet_ext.outcomes.columns import REGRESSION, Column, Covariate, Schema
from nnunet_ext.outcomes.conformal import half_width
from nnunet_ext.outcomes.heads import LEVEL, Heads
from nnunet_ext.outcomes.prediction import case_outputs
from nnunet_ext.outcomes.standardising import Standardisation
from nnunet_ext.outcomes.trainer import FINAL, STANDARDISATION
from nnunet_ext.trainers import checkpoints
from nnunet_ext.trainers.grammar import TrainerName, parse


@dataclass(frozen=True)
class CaseModel:
    """Networks of one or several folds; their predictions are averaged.

    Attributes:
        columns: what is predicted.
        networks: of each fold, in evaluation mode.
        standardisations: of each fold's covariates; None for networks that read none.
        mirrored: of each fold, the axes of the patch in which cases are mirrored; None for none.
        plans, configuration, dataset_json: nnU-Net's.
        reach: name of a regression column without a spread -> half of its interval's width; infinite where validation
            cases are too few.
        validated_by: checkpoints of the folds' validations, by whose errors :attr:`reach` is.
        device: of the networks.
        precision: of their recipe.
        seed: of their recipe.
    """

    columns: list[Column]
    networks: list[CaseNetwork]
    standardisations: list[Standardisation | None]
    mirrored: list[tuple[int, ...] | None]
    plans: PlansManager
    configuration: ConfigurationManager
    dataset_json: dict[str, Any]
    reach: dict[str, float]
    validated_by: tuple[str, ...]
    device: torch.device
    precision: str
    seed: int | None

    @property
    def covariates(self) -> tuple[Covariate, ...]:
        """What the networks read beside the images."""
        first = self.standardisations[0]
        return first.covariates if first else ()

    def preprocessed(self, files: Sequence[Path]) -> Tensor:
        """A case's image (C, Z, Y, X) as the networks were trained on it, from its channels' files."""
        preprocessor = self.configuration.preprocessor_class(verbose=False)
        given = [str(path) for path in files]
        image = preprocessor.run_case(given, None, self.plans, self.configuration, self.dataset_json)[0]
        return torch.from_numpy(np.asarray(image, np.float32))

    def read(self, files: Sequence[Path], row: Mapping[str, str] | None = None) -> dict[str, dict[str, Tensor]]:
        """Column -> what the heads say of a case: ``probabilities`` (1, K), or ``value`` with its ends (1,).

        Args:
            files: of the case's channels.
            row: of its covariates, for networks that read them.

        Raises:
            ValueError: covariates are missing.
        """
        image, size = self.preprocessed(files), self.configuration.patch_size
        said = []
        for network, standardisation, axes in zip(self.networks, self.standardisations, self.mirrored, strict=True):
            told = None if standardisation is None else torch.tensor(_covariates(standardisation, row))
            outputs = case_outputs(network, image, size, self.device, self.precision, told, axes)
            said.append(cast(Heads, network.heads).read(outputs[None].to(self.device)))
        found = {column.name: _mean([each[column.name] for each in said]) for column in self.columns}
        for name, reach in self.reach.items():
            if np.isfinite(reach):
                found[name] |= {"lower": found[name]["value"] - reach, "upper": found[name]["value"] + reach}
        return found


def _covariates(standardisation: Standardisation, row: Mapping[str, str] | None) -> tuple[float, ...]:
    if row is None:
        names = ", ".join(covariate.name for covariate in standardisation.covariates)
        raise ValueError(f"the model reads the covariates {names}; give a table with a row of it by --targets.")
    return standardisation.of(row)


def _mean(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([part[name].double().cpu() for part in parts]).mean(0) for name in parts[0]}


def load_model(
    folder: Path, folds: Sequence[int | str], checkpoint: str, device: torch.device, *, mirroring: bool = True
) -> CaseModel:
    """Reads a model.

    Args:
        folder: ``TRAINER__PLANS__CONFIGURATION`` below a dataset's results.
        folds: whose networks are used.
        checkpoint: name of their files.
        device: for the networks.
        mirroring: whether cases are mirrored as their trainings allow, or not at all.

    Raises:
        ValueError: the folder or a checkpoint is not there or is no case-level model's.
    """
    trainer, _, configuration = _parts_of(folder)
    parsed = _trainer(trainer)
    plans_dict, dataset_json = (_json(folder / name) for name in ("plans.json", "dataset.json"))
    declared = declared_in(plans_dict)
    if declared is None:
        raise ValueError(f"{folder}/plans.json declares no targets; train the model anew.")
    columns = as_trained(declared.columns.values(), parsed.recipe)
    plans = PlansManager(plans_dict)
    planned = plans.get_configuration(configuration)
    classes = plans.get_label_manager(dataset_json).num_segmentation_heads
    channels = (determine_num_input_channels(plans, planned, dataset_json), classes)
    read = [_network(folder / f"fold_{f}" / checkpoint, parsed, planned, channels, declared, device) for f in folds]
    networks, standardisations, axes = (list(found) for found in zip(*read, strict=True))
    mirrored = axes if mirroring else [None] * len(axes)
    reach = {c.name: _reach(folder, folds, c.name) for c in columns if c.kind == REGRESSION and not c.spread}
    recipe = parsed.recipe
    return CaseModel(
        columns,
        networks,
        standardisations,
        mirrored,
        plans,
        planned,
        dataset_json,
        reach,
        _validated_by(folder, folds),
        device,
        recipe.precision,
        recipe.seed,
    )


def _parts_of(folder: Path) -> list[str]:
    parts = folder.name.split("__")
    if len(parts) != 3 or not folder.is_dir():
        raise ValueError(f"There is no folder {folder}; train the model first, or name another with -tr, -p and -c.")
    return parts


def _trainer(name: str) -> TrainerName:
    parsed = parse(name)
    if parsed is None or parsed.spec.task != CASE_LEVEL:
        raise ValueError(
            f"{name} is no trainer of case-level targets (nnUNetTrainer_Case...); segment with {_of(parsed)}."
        )
    return parsed


def _of(parsed: TrainerName | None) -> str:
    return parsed.spec.task.command if parsed else "nnUNetv2_predict"


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"There is no {path}; its training writes it, so train the model first.")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _network(
    path: Path,
    parsed: TrainerName,
    planned: ConfigurationManager,
    channels: tuple[int, int],
    declared: Schema,
    device: torch.device,
) -> tuple[CaseNetwork, Standardisation | None, tuple[int, ...] | None]:
    made = build_case_network(parsed.spec, parsed.size, parsed.recipe, planned, channels, declared)
    content = checkpoints.read(path, made.state_dict())
    made.load_state_dict({name.removeprefix("module."): value for name, value in content["network_weights"].items()})
    stored = content["init_args"].get(STANDARDISATION)
    axes = content.get("inference_allowed_mirroring_axes")
    found = Standardisation.from_dict(stored) if stored else None
    return made.to(device).eval(), found, tuple(axes) if axes else None


def _reach(folder: Path, folds: Sequence[int | str], column: str) -> float:
    """Half-width by the residuals of the folds' validation cases, on which their networks were not trained."""
    residuals: list[float] = []
    for fold in folds:
        validated = folder / f"fold_{fold}" / "validation"
        if fold == "all" or not (validated / results.TABLE_FILE).is_file():
            return float("inf")
        predictions = results.read(validated).predictions(column)
        difference = predictions.truth - predictions.prediction
        residuals += difference[np.isfinite(difference)].tolist()
    return half_width(np.array(residuals), LEVEL)


def _validated_by(folder: Path, folds: Sequence[int | str]) -> tuple[str, ...]:
    """The checkpoints whose validations the folds hold."""
    validated = [folder / f"fold_{fold}" / "validation" for fold in folds]
    return tuple(
        results.read(v).facts.get("checkpoint", FINAL) for v in validated if (v / results.TABLE_FILE).is_file()
    )
