"""nnU-Net's trainer for targets that are a row of a table: stock data, folds, augmentation, loop; hooks only.

A batch's segmentation is replaced by the rows of its cases (``batch["keys"]``). Which columns there are is declared in
targets.json and travels with the model in its plans, below ``DECLARED``, so that prediction needs nothing else.

What nnU-Net's log calls pseudo Dice is here the skill of each column on the validation batches: 1 - loss / loss of a
constant, of which the training cases' frequencies (mean) are the best. It is 0 for what knows nothing but these, 1 for
perfect predictions (McFadden 1974 calls it the likelihood ratio index), and cut off at -1. Best checkpoint, early
stopping and plateaus follow its moving average.
"""

import json
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import Tensor, nn

from nnunet_ext.outcomes import validation
from nnunet_ext.outcomes.building import (
    DECLARED,
    as_trained,
    build_case_network,
    declaration,
    declared_in,
    refuse_segmentation,
)
from nnunet_ext.outcomes.columns import CLASS, Column
from nnunet_ext.outcomes.folds import check_part, check_splits
from nnunet_ext.outcomes.heads import shares
from nnunet_ext.outcomes.losses import CaseLoss, ColumnParts
from nnunet_ext.outcomes.prediction import with_covariates
from nnunet_ext.outcomes.standardising import Standardisation, check_covariates
from nnunet_ext.outcomes.targets import Targets, load_targets
from nnunet_ext.trainers import distributed
from nnunet_ext.trainers.base import ExtTrainer
from nnunet_ext.trainers.guard import SKIPPED_STEPS, FiniteLoss
from nnunet_ext.trainers.precision import loss_context
from nnunet_ext.trainers.step import on_device

FINAL = "checkpoint_final.pth"
SPLITS_FILE = "splits_final.json"
STANDARDISATION = "standardisation"  # key of a checkpoint's init_args
WORST_SKILL = -1.0
SMALLEST_REFERENCE = 1e-6


class CaseTrainer(ExtTrainer):
    """Trains an encoder and heads for the columns of targets.json; see the head of this module.

    The arguments are nnU-Net's.

    Raises:
        ValueError: targets.json or targets.csv of the preprocessed dataset is missing or wrong, or a word asks for a
            column that there is not.
    """

    SCORE: ClassVar[str] = "Mean skill"

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008 - nnU-Net's signature, which it reads by inspection
    ) -> None:
        folder = Path(os.environ.get("nnUNet_preprocessed", "nnUNet_preprocessed"), plans["dataset_name"])
        self.targets: Targets = load_targets(folder)
        self.columns = as_trained(chosen(self.targets, self.recipe.targets), self.recipe)
        plans = {**plans, DECLARED: declaration(self.targets.schema, self.columns, self.recipe)}
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.enable_deep_supervision = bool(self.recipe.joint)
        self.build_network_architecture = self.network_with_heads  # type: ignore[method-assign] # of this training

    @classmethod
    def build_network_architecture(
        cls,
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> nn.Module:
        """What nnU-Net's predictor calls; trainings, and who imports weights, build by :meth:`network_with_heads`.

        Raises:
            ValueError: the plans are a trained model's, so that its caller wants a segmentation (nnUNetv2_predict).
        """
        refuse_segmentation(cls.__name__, plans_manager.plans)
        return cls.network_with_heads(plans_manager, configuration_manager, num_input_channels, num_output_channels)

    @classmethod
    def network_with_heads(
        cls,
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = False,
    ) -> nn.Module:
        """Encoder and heads; how many outputs there are is told by the plans and not by the labels."""
        declared = declared_in(plans_manager.plans)
        counts = (num_input_channels, num_output_channels)
        return build_case_network(cls.spec, cls.size, cls.recipe, configuration_manager, counts, declared)

    def initialize(self) -> None:
        """As nnU-Net's; the heads begin with what the training cases' values say without their images.

        Raises:
            ValueError: a case of the fold has no row, or a column cannot be learnt from the training cases.
        """
        self._check_fold()
        training, validated = self._cases
        for case in (*training, *validated):
            self._check_row(case)
        if self.fold != "all":
            check_splits(self.targets, self._splits(), str(self._splits_file))
        for column in self.columns:
            check_part(self.targets, column.name, training, f"the training cases of fold {self.fold}")
        if self.recipe.covariates:
            self._standardisation = self.targets.standardised(training)
            self.my_init_kwargs[STANDARDISATION] = self._standardisation.as_dict()
        super().initialize()
        values, censored = self._values(training)
        heads = self.bare_network.heads
        heads.start(values, censored)
        self._base_rate_losses = self._mean_losses(heads.base_rates(len(training)), heads.target(values, censored))

    _standardisation: Standardisation

    @property
    def _splits_file(self) -> Path:
        return Path(self.preprocessed_dataset_folder_base, SPLITS_FILE)

    def _splits(self) -> Any:
        return json.loads(self._splits_file.read_text(encoding="utf-8"))

    def _check_fold(self) -> None:
        """Refuses a fold that does not exist: nnU-Net would make one of its own, which knows no patients."""
        path, remedy = self._splits_file, f"nnunet_ext targets -d {self.plans_manager.dataset_name}"
        if self.fold == "all":
            return
        if not path.is_file():
            raise ValueError(f"There is no {path}, and folds of nnU-Net's own part patients; make them by {remedy}.")
        if self.fold >= len(splits := self._splits()):
            raise ValueError(f"{path} has {len(splits)} folds and no fold {self.fold}; name one of them.")

    def _check_row(self, case: str) -> None:
        """Refuses a case that has no row, or whose covariates the network cannot read."""
        row = self.targets.row(case)
        if self.recipe.covariates:
            check_covariates(self.targets.covariates.values(), row, case)

    @cached_property
    def _cases(self) -> tuple[list[str], list[str]]:
        """Training and validation cases of the fold."""
        training, validated = self.do_split()
        return list(training), list(validated)

    # --- targets

    def _values(self, cases: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Values (n, T), NaN where unknown, and which are censored (n, T)."""
        names = [column.name for column in self.columns]
        values = np.stack([self.targets.values(name, cases) for name in names], 1)
        seen = np.array([[self.targets.observed(name, case) for name in names] for case in cases])
        return torch.from_numpy(values), torch.from_numpy(~seen & ~np.isnan(values))

    def _with_targets(self, batch: dict) -> dict:
        values, censored = self._values(batch["keys"])
        batch = {**batch, "target": self.bare_network.heads.target(values, censored).float()}
        if self.recipe.covariates:
            told = torch.stack([cast(Tensor, self.covariates_of(case)) for case in batch["keys"]])
            batch["data"] = with_covariates(batch["data"], told)
        return batch

    def covariates_of(self, case: str) -> Tensor | None:
        """(V,): a case's covariates as the network reads them; None where the recipe leaves them out."""
        if not self.recipe.covariates:
            return None
        return torch.tensor(self._standardisation.of(self.targets.row(case)), dtype=torch.float32)

    def train_step(self, batch: dict) -> dict[str, Any]:
        """As before, with the cases' rows as the target."""
        return super().train_step(self._with_targets(batch))

    def _further_batch(self) -> dict:
        return self._with_targets(super()._further_batch())

    def _build_loss(self) -> nn.Module:
        loss = CaseLoss(self.columns, self._level_weights(), self.recipe.smoothing)
        self.loss_parts = ColumnParts(loss)
        return FiniteLoss(loss, SKIPPED_STEPS if self.grad_scaler is not None else 0)

    def _level_weights(self) -> dict[str, list[float]]:
        """With the word ``Balanced``: of each level the inverse of its frequency, of mean 1 over the training cases."""
        if not self.recipe.balanced:
            return {}
        found = {}
        for column in (column for column in self.columns if column.kind == CLASS):
            frequency = shares(torch.from_numpy(self.targets.values(column.name, self._cases[0])), len(column.levels))
            found[column.name] = (1 / (frequency * len(frequency))).tolist()
        return found

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        """There is none."""

    # --- validation of an epoch

    def validation_step(self, batch: dict) -> dict[str, Any]:
        """The loss, and the mean loss of each column, (T,), with the number of its cases."""
        data, target = on_device(self._with_targets(batch), self.device)
        with loss_context(self.device, self.recipe.precision):
            found = self.network(data)
            loss = self.loss(found, target)
        outputs, rows = self._of_columns(found, target)
        means = self._mean_losses(outputs.float(), rows)
        counts = (~rows[..., 0].isnan()).sum(0)
        told = {"loss": loss.cpu().numpy(), "means": means, "counts": counts.cpu().numpy()}
        return {**told, **self._told_besides(found, target)}

    def _of_columns(self, found: Any, target: Any) -> tuple[Tensor, Tensor]:
        """The heads' outputs and the rows of targets, of what the network gives and a batch holds."""
        return found, target

    def _told_besides(self, found: Any, target: Any) -> dict[str, Any]:
        """What else a validation step tells of a batch."""
        return {}

    def _mean_losses(self, outputs: Tensor, target: Tensor) -> np.ndarray:
        """Of each column, (T,), without weights and smoothing; of a regression Huber's, whatever it is trained by."""
        loss = CaseLoss(self.columns, values_alone=True)
        with torch.no_grad():
            loss(outputs, target.to(outputs.device))
        return np.array([loss.latest[column.name].item() for column in self.columns])

    def _log_validation(self, outputs: list[dict]) -> None:
        every = [output for part in distributed.gather(outputs) for output in part]
        skills = self.skills(*(np.array([output[name] for output in every]) for name in ("means", "counts")))
        known = [skill for skill in skills if not np.isnan(skill)]
        self.logger.log("mean_fg_dice", float(np.mean(known)) if known else WORST_SKILL, self.current_epoch)
        self.logger.log("dice_per_class_or_region", skills, self.current_epoch)
        self.logger.log("val_losses", float(np.mean([output["loss"] for output in every])), self.current_epoch)

    def skills(self, means: np.ndarray, counts: np.ndarray) -> list[float]:
        """Of each column from mean losses and numbers of cases of several batches, (n, T) both; NaN without a case."""
        total = counts.sum(0)
        loss = np.where(counts > 0, means * counts, 0).sum(0) / np.maximum(total, 1)
        skill = np.maximum(1 - loss / np.maximum(self._base_rate_losses, SMALLEST_REFERENCE), WORST_SKILL)
        return [float(value) for value in np.where(total > 0, skill, np.nan)]

    def region_names(self) -> list[str]:
        """Names of the columns."""
        return [column.name for column in self.columns]

    # --- whole cases

    def full_volume_score(self) -> float:
        """Mean skill on the whole validation cases, without mirroring."""
        cases = self._cases[1]
        outputs = validation.outputs_of(self, cases)
        heads = self.bare_network.heads
        target = heads.target(*self._values(cases)).float()
        counts = (~target[..., 0].isnan()).sum(0).numpy()
        skills = self.skills(self._mean_losses(outputs, target.cpu())[None], counts[None])
        return float(np.nanmean(skills))

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Writes the table of the fold's validation cases and its metrics; processes share the cases.

        Cases are mirrored where nnU-Net's validation would do so: as in training.
        """
        self._join_processes()
        cases = self._cases[1]
        outputs = validation.outputs_of(self, cases, self.inference_allowed_mirroring_axes)
        if self.local_rank == 0:
            metrics = validation.write(self, cases, outputs)
            self.print_to_log_file(validation.told(metrics), also_print_to_console=True)
        distributed.part()

    # --- going on

    _weights = FINAL

    def load_checkpoint(self, filename_or_checkpoint: dict | str) -> None:
        """As before; the table of a validation says whose weights it is of."""
        super().load_checkpoint(filename_or_checkpoint)
        if not isinstance(filename_or_checkpoint, dict):
            self._weights = Path(filename_or_checkpoint).name

    def on_train_end(self) -> None:
        """As before; what is validated then are the last weights."""
        super().on_train_end()
        self._weights = FINAL

    def _restore(self, content: dict[str, Any]) -> None:
        then, now = content["init_args"]["plans"].get(DECLARED), self.plans_manager.plans[DECLARED]
        if then != now:
            raise ValueError(
                f"The checkpoint in {self.output_folder} was trained for other columns than targets.json now declares "
                f"({_differences(then, now)}); restore the declaration, or train anew without --c."
            )
        super()._restore(content)


def chosen(targets: Targets, word: str) -> list[Column]:
    """The columns that a recipe asks for: ``all``, or their places from 1 on, as in ``1and3``."""
    columns = list(targets.columns.values())
    if word == "all":
        return columns
    places = [int(place) for place in word.split("and")]
    if places != sorted(set(places)) or places[-1] > len(columns):
        names = ", ".join(f"{i} {column.name}" for i, column in enumerate(columns, 1))
        raise ValueError(f"Target{word} asks for columns of targets.json by their places, each once: {names}.")
    return [columns[place - 1] for place in places]


def _differences(then: Any, now: Any) -> str:
    """Of two declarations, entry by entry: what it was then and is now."""
    told = []
    for kind in ("columns", "covariates", "inputs"):
        before, after = ((found or {}).get(kind, {}) for found in (then, now))
        for name in dict.fromkeys([*before, *after]):
            if before.get(name) != after.get(name):
                told.append(f"{name}: {_declared(before.get(name))} then, {_declared(after.get(name))} now")
    return "; ".join(told) or "their order is another"


def _declared(entry: Any) -> str:
    return "not there" if entry is None else json.dumps(entry)
