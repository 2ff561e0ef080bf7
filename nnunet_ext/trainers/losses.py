"""Losses by name, for nnU-Net's targets: regions (sigmoid; an ignore channel last) or classes (softmax; labels).

nnU-Net's own loss is taken as it is and weighted. Focal and Tversky are written here, for nnunetv2 has neither and
MONAI's know no ignore label; the tests hold them against MONAI's.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.loss.dice import get_tp_fp_fn_tn
from nnunetv2.utilities.ddp_allgather import AllGatherGrad
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, softmax

GAMMA = 2.0  # Lin 2017, https://arxiv.org/abs/1708.02002
FALSE_POSITIVES, FALSE_NEGATIVES = 0.3, 0.7  # Salehi 2017, https://arxiv.org/abs/1706.05721
SMOOTH = 1e-5  # nnU-Net's


@dataclass(frozen=True)
class Mix:
    """A loss of an overlap and a voxel part.

    Attributes:
        overlap, voxels: weights of the parts; a part of weight 0 is not computed.
        tversky: whether the overlap is Tversky's index in place of Dice.
        focal: whether the voxel part is the focal loss in place of cross-entropy.
    """

    overlap: float
    voxels: float
    tversky: bool = False
    focal: bool = False

    @property
    def own(self) -> bool:
        """Whether nnU-Net's own loss lacks one of the parts."""
        return self.tversky or self.focal


LOSSES: Mapping[str, Mix] = {
    "DiceCE": Mix(1, 1),
    "Dice70CE30": Mix(0.7, 0.3),
    "Dice50CE50": Mix(0.5, 0.5),
    "Focal": Mix(0, 1, focal=True),
    "DiceFocal": Mix(1, 1, focal=True),
    "Tversky": Mix(1, 0, tversky=True),
}


def with_parts(loss: nn.Module, name: str) -> nn.Module:
    """nnU-Net's loss with other weights or parts.

    Args:
        loss: of nnU-Net's trainer, with deep supervision or without.
        name: a key of :data:`LOSSES`.
    """
    mix = LOSSES[name]
    core = core_of(loss)
    if not mix.own:
        core.weight_dice, core.weight_ce = mix.overlap, mix.voxels
        return loss
    made = MixedLoss(core, mix)
    if isinstance(loss, DeepSupervisionWrapper):
        loss.loss = made
        return loss
    return made


def core_of(loss: nn.Module) -> Any:
    """The loss of one resolution."""
    return loss.loss if isinstance(loss, DeepSupervisionWrapper) else loss


class MixedLoss(nn.Module):
    """The weighted sum of an overlap and a voxel loss, for the targets of the loss of nnU-Net that it replaces.

    ``forward`` takes logits (B, K, ...) and regions (B, K, ...), with an ignore channel (B, K + 1, ...), or labels
    (B, 1, ...), and returns a number.
    """

    def __init__(self, usual: Any, mix: Mix) -> None:
        super().__init__()
        self.regions = isinstance(usual, DC_and_BCE_loss)
        self.ignored = usual.use_ignore_label if self.regions else usual.ignore_label
        self.weight_dice, self.weight_ce = mix.overlap, mix.voxels
        self.dc = Tversky(usual.dc) if mix.tversky else usual.dc
        self.ce: nn.Module = (FocalOfRegions() if self.regions else FocalOfClasses()) if mix.focal else usual.ce

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss."""
        target, mask = self._split(target)
        parts = []
        if self.weight_dice:
            parts.append(self.weight_dice * self.dc(logits, target, loss_mask=mask))
        if self.weight_ce:
            parts.append(self.weight_ce * self.ce(logits, target, mask))
        return torch.stack(parts).sum()

    def _split(self, target: Tensor) -> tuple[Tensor, Tensor | None]:
        """The target without what is ignored, and where it counts: (B, 1, ...), None for everywhere."""
        if self.regions:
            return (target[:, :-1], ~target[:, -1:].bool()) if self.ignored else (target, None)
        if self.ignored is None:
            return target, None
        mask = target != self.ignored
        return torch.where(mask, target, 0), mask


def masked_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """The mean of (B, K, ...) over the places of a mask (B, 1, ...), 0 where there is none."""
    if mask is None:
        return values.mean()
    return (values * mask).sum() / (mask.sum() * values.shape[1]).clamp(min=1)


class FocalOfRegions(nn.Module):
    """Sigmoid focal loss (Lin 2017), the mean over regions and voxels."""

    def forward(self, logits: Tensor, target: Tensor, mask: Tensor | None) -> Tensor:
        """Of logits (B, K, ...), regions (B, K, ...) and where they count (B, 1, ...)."""
        truth = target.float()
        surprise = binary_cross_entropy_with_logits(logits, truth, reduction="none")
        return masked_mean((1 - torch.exp(-surprise)) ** GAMMA * surprise, mask)


class FocalOfClasses(nn.Module):
    """Softmax focal loss (Lin 2017), the mean over voxels."""

    def forward(self, logits: Tensor, target: Tensor, mask: Tensor | None) -> Tensor:
        """Of logits (B, K, ...), labels (B, 1, ...) and where they count (B, 1, ...)."""
        surprise = cross_entropy(logits, target[:, 0].long(), reduction="none")[:, None]
        return masked_mean((1 - torch.exp(-surprise)) ** GAMMA * surprise, mask)


class Tversky(nn.Module):
    """Tversky's index, negative, with the settings (batch Dice, background, processes) of the Dice that it replaces."""

    def __init__(self, dice: Any) -> None:
        super().__init__()
        self.apply_nonlin: Callable[[Tensor], Tensor] = dice.apply_nonlin or (lambda x: softmax(x, 1))
        self.batch_dice, self.do_bg, self.ddp = dice.batch_dice, dice.do_bg, dice.ddp

    def forward(self, logits: Tensor, target: Tensor, loss_mask: Tensor | None = None) -> Tensor:
        """Of logits (B, K, ...), regions (B, K, ...) or labels (B, 1, ...) and where they count (B, 1, ...)."""
        axes = ([0] if self.batch_dice else []) + list(range(2, logits.ndim))
        counts = get_tp_fp_fn_tn(self.apply_nonlin(logits), target, axes, loss_mask)[:3]
        if self.ddp and self.batch_dice:
            counts = [AllGatherGrad.apply(count).sum(0) for count in counts]
        found, spurious, missed = counts if self.do_bg else [count[..., 1:] for count in counts]
        index = (found + SMOOTH) / (found + FALSE_POSITIVES * spurious + FALSE_NEGATIVES * missed + SMOOTH)
        return -index.mean()


class LossParts:
    """What the parts of a training step's loss were: the overlap and the voxel part, over the weighted resolutions.

    Listens to the parts of the loss, so that it is the same for nnU-Net's losses and ours. A part that is not a number,
    as nnU-Net's masked cross-entropy is, is left out.
    """

    NAMES: Mapping[str, str] = {"dc": "overlap", "ce": "voxels"}

    def __init__(self, loss: nn.Module) -> None:
        weights = loss.weight_factors if isinstance(loss, DeepSupervisionWrapper) else (1.0,)
        self.weights = [float(weight) for weight in weights if weight]
        self.seen: dict[str, list[Tensor]] = {name: [] for name in self.NAMES.values()}
        core = core_of(loss)
        for attribute, name in self.NAMES.items():
            getattr(core, attribute).register_forward_hook(self._hook(name))

    def _hook(self, name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(_module: nn.Module, _inputs: Any, value: Tensor) -> None:
            if value.requires_grad and value.ndim == 0:
                self.seen[name].append(value.detach())

        return hook

    def take(self) -> dict[str, Tensor]:
        """The parts since the last call, averaged over the batches of an accumulation."""
        found, taken = self.seen, {}
        self.seen = {name: [] for name in found}
        for name, values in found.items():
            if values:
                factors = torch.tensor(self.weights, device=values[0].device)
                taken[name] = (torch.stack(values).float().unflatten(0, (-1, len(factors))) * factors).sum(1).mean()
        return taken
