"""One encoder trained for the columns of targets.json and for the segmentation (the word ``Joint<weight>``).

The loss is that of the columns and, so many times, what nnU-Net's trainer minimises for the segmentation: Dice and
cross-entropy over the resolutions of the decoder (Caruana 1997, 10.1023/A:1007379606734, learns several tasks on one
representation). Data, targets of deep supervision and the split among processes are those of the segmentation.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from nnunetv2.training.loss.dice import get_tp_fp_fn_tn
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from torch import Tensor, nn

from nnunet_ext.outcomes.pixels import LABELS
from nnunet_ext.outcomes.trainer import CaseTrainer
from nnunet_ext.trainers import distributed
from nnunet_ext.trainers.base import ExtTrainer
from nnunet_ext.trainers.guard import SKIPPED_STEPS, FiniteLoss


class JointLoss(nn.Module):
    """``columns`` and ``weight`` times ``segmentation``.

    Args:
        columns: of outputs (B, O) and rows of targets (B, T, 2).
        segmentation: of lists of logits and of segmentations, high to low resolution.
        weight: of the segmentation.
    """

    def __init__(self, columns: nn.Module, segmentation: nn.Module, weight: float) -> None:
        super().__init__()
        self.columns, self.segmentation, self.weight = columns, segmentation, weight

    def forward(self, found: list[Tensor], target: list[Tensor]) -> Tensor:
        """Of [outputs, *logits] and [rows, *segmentations]."""
        (outputs, *logits), (rows, *segmentations) = found, target
        total: Tensor = self.columns(outputs, rows) + self.weight * self.segmentation(logits, segmentations)
        return total


class AllParts:
    """The parts of several losses as those of one; see :class:`nnunet_ext.trainers.losses.LossParts`."""

    def __init__(self, *each: Any) -> None:
        self.each = each
        self.NAMES: Mapping[str, str] = {key: name for parts in each for key, name in parts.NAMES.items()}

    def take(self) -> dict[str, Tensor]:
        """The parts since the last call."""
        return {name: value for parts in self.each for name, value in parts.take().items()}


class JointTrainer(CaseTrainer):
    """Trains heads and decoder; best checkpoint, table and prediction are the heads'.

    The decoder's pseudo Dice of an epoch is in progress.jsonl (``segmentation_dice``) and in nnU-Net's log file.
    """

    _segmented: Mapping[str, float | None] | None = None

    def initialize(self) -> None:
        """As before.

        Raises:
            ValueError: the dataset has no segmentation, but what stands in for one.
        """
        if self.dataset_json["labels"] == LABELS:
            raise ValueError(
                f"Joint trains the segmentation too, and {self.plans_manager.dataset_name} has none: the whole image "
                "stands in for it; leave the word out."
            )
        super().initialize()

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        """As nnU-Net's: without it a prediction follows, which needs no decoder at all."""
        network = self.bare_network
        network.decodes = network.decoder.deep_supervision = enabled

    def _with_targets(self, batch: dict) -> dict:
        segmentations = batch["target"]
        rows = super()._with_targets(batch)
        return {**rows, "target": [rows["target"], *segmentations]}

    def _of_columns(self, found: Any, target: Any) -> tuple[Tensor, Tensor]:
        return found[0], target[0]

    def _told_besides(self, found: Any, target: Any) -> dict[str, Any]:
        return {"voxels": hits_and_errors(found[1], target[1], self.label_manager)}

    def on_epoch_start(self) -> None:
        """As before; nothing is known of this epoch's segmentations."""
        self._segmented = None
        super().on_epoch_start()

    def _log_validation(self, outputs: list[dict]) -> None:
        super()._log_validation(outputs)
        every = np.sum([output["voxels"] for part in distributed.gather(outputs) for output in part], 0)
        total = every @ (2, 1, 1)
        dice = [2 * hits / both if both else None for hits, both in zip(every[:, 0].tolist(), total, strict=True)]
        self._segmented = dict(zip(ExtTrainer.region_names(self), dice, strict=True))
        told = ", ".join(f"{name} {'-' if d is None else f'{d:.4f}'}" for name, d in self._segmented.items())
        self.print_to_log_file(f"Pseudo dice of the segmentation: {told}")

    def _record(self, epoch: int, memory: dict[str, float | None]) -> dict[str, Any]:
        return {**super()._record(epoch, memory), "segmentation_dice": self._segmented}

    def _build_loss(self) -> nn.Module:
        segmentation: Any = ExtTrainer._build_loss(self)
        voxels = self.loss_parts
        columns: Any = super()._build_loss()
        self.loss_parts = AllParts(self.loss_parts, voxels)
        loss = JointLoss(columns.loss, segmentation.loss, self.recipe.joint)
        return FiniteLoss(loss, SKIPPED_STEPS if self.grad_scaler is not None else 0)


def hits_and_errors(logits: Tensor, truth: Tensor, labels: LabelManager) -> np.ndarray:
    """Voxels of each region or class that are true positive, false positive, false negative: (R, 3), as nnU-Net counts.

    Args:
        logits: (B, C, *S).
        truth: label maps (B, 1, *S), or regions (B, R, *S), after which the ignored voxels come if there are any.
        labels: of the dataset.
    """
    mask = None
    if labels.has_regions:
        found = (torch.sigmoid(logits) > 0.5).float()
        if labels.has_ignore_label:
            truth, mask = truth[:, :-1], 1 - truth[:, -1:].float()
    else:
        found = torch.zeros_like(logits).scatter_(1, logits.argmax(1, keepdim=True), 1)
        if labels.has_ignore_label:
            mask = (truth != labels.ignore_label).float()
            truth = truth * mask
    counts = get_tp_fp_fn_tn(found, truth, [0, *range(2, logits.ndim)], mask)[:3]
    table: np.ndarray = torch.stack(counts, -1).double().cpu().numpy()
    return table if labels.has_regions else table[1:]
