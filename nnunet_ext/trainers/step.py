"""One step of the optimiser: forward passes of one batch or several, their gradients' mean, its norm, the update.

nnU-Net's ``train_step`` has the norm, the precision and the single batch as literals; with the recipe's defaults this
one does the same to the last bit.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from nnunet_ext.trainers.freezing import forget_gradients
from nnunet_ext.trainers.precision import loss_context


def on_device(batch: dict[str, Any], device: torch.device) -> tuple[Tensor, Any]:
    """Input and target of a batch of nnU-Net's loader; with deep supervision the target is a list."""
    data, target = batch["data"].to(device, non_blocking=True), batch["target"]
    if isinstance(target, list):
        return data, [each.to(device, non_blocking=True) for each in target]
    return data, target.to(device, non_blocking=True)


def accumulate(
    network: nn.Module,
    loss: nn.Module,
    batches: Iterator[dict[str, Any]],
    count: int,
    *,
    device: torch.device,
    precision: str,
    scaler: Any = None,
) -> Tensor:
    """Adds the gradients of the mean loss of so many batches to the network's; returns that loss.

    Processes that train together exchange gradients once, with the last batch.
    """
    total = torch.zeros((), device=device)
    for k in range(count):
        data, target = on_device(next(batches), device)
        with _exchange(network, last=k == count - 1):
            with loss_context(device, precision):
                value = loss(network(data), target)
            share = value / count if count > 1 else value
            (scaler.scale(share) if scaler is not None else share).backward()
        total = total + share.detach().float()
    return total


def _exchange(network: nn.Module, *, last: bool) -> AbstractContextManager[None]:
    if last or not isinstance(network, DistributedDataParallel):
        return nullcontext()
    waiting: AbstractContextManager[None] = network.no_sync()
    return waiting


def update(network: nn.Module, optimiser: Optimizer, clip: float, scaler: Any = None) -> None:
    """Scales the gradients down to the norm ``clip`` where theirs is larger, and lets the optimiser step.

    What has the rate 0 has no gradient: it neither moves nor counts.
    """
    forget_gradients(optimiser)
    if scaler is not None:
        scaler.unscale_(optimiser)
    torch.nn.utils.clip_grad_norm_(network.parameters(), clip)
    if scaler is None:
        optimiser.step()
        return
    scaler.step(optimiser)
    scaler.update()
