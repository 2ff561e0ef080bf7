"""What is run to find a cost: one training step as nnU-Net does it, or one forward pass.

Assumed of training, as in nnU-Net 2.8: soft Dice and binary cross-entropy on regions (BraTS), deep supervision without
a loss on the lowest output, gradients set to None between steps, SGD with Nesterov momentum 0.99 and weight decay 3e-5
unless another optimiser is named. Left out, because they need no memory to speak of: the gradient scaler and the
clipping of gradients.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.optim import SGD, Adam, AdamW, Optimizer

SMOOTH = 1e-5
LOSS, OPTIMISER = "loss", "optimiser"  # labels of what is in no stage of the network

OPTIMISERS: Mapping[str, Callable[..., Optimizer]] = {
    "SGD": partial(SGD, lr=1e-2, momentum=0.99, nesterov=True, weight_decay=3e-5),
    "Adam": partial(Adam, lr=1e-4, weight_decay=3e-5),
    "AdamW": partial(AdamW, lr=1e-4, weight_decay=3e-5),
}

Label = Callable[[str], AbstractContextManager[None]]


def unlabelled(label: str) -> AbstractContextManager[None]:
    """For steps that nobody follows."""
    return nullcontext()


def region_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Mean soft Dice and binary cross-entropy, as nnU-Net's for regions; keeps the same tensors for the backward pass.

    Args:
        logits: (B, K, Z, Y, X).
        target: (B, K, Z, Y, X), bool.
    """
    axes = tuple(range(2, logits.ndim))
    probability, truth = torch.sigmoid(logits), target.float()
    overlap = (probability * truth).sum(axes, dtype=torch.float32)
    volumes = probability.sum(axes, dtype=torch.float32) + truth.sum(axes, dtype=torch.float32)
    dice = (2 * overlap + SMOOTH) / (volumes + SMOOTH).clamp_min(1e-8)
    return binary_cross_entropy_with_logits(logits, target.float()) - dice.mean()


def supervised_loss(outputs: Tensor | Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    """The weighted sum over the outputs, high to low resolution; of several the lowest has weight 0."""
    maps = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    counted = max(1, len(maps) - 1)
    weights = [2.0**-i / (2 - 2.0 ** (1 - counted)) for i in range(counted)]
    losses = [w * region_loss(*pair) for w, *pair in zip(weights, maps, targets, strict=False)]
    return torch.stack(losses).sum() if len(losses) > 1 else losses[0]


@dataclass
class Training:
    """A network with all that a training step needs.

    Attributes:
        network: gives logits, with deep supervision a list of them.
        image: (B, C, Z, Y, X).
        optimiser: see ``OPTIMISERS``; its state exists.
        precision: makes the context of the forward pass.
        accumulation: forward and backward passes per step.
        targets: one for each output, (B, K, ...), bool; made when the outputs are first known.
    """

    network: nn.Module
    image: Tensor
    optimiser: Optimizer
    precision: Callable[[], AbstractContextManager[object]] = nullcontext
    accumulation: int = 1
    targets: list[Tensor] = field(default_factory=list)

    def step(self, label: Label = unlabelled) -> None:
        """One step; gradients are left, to be looked at, and removed by :meth:`reset`."""
        for _ in range(self.accumulation):
            outputs = self._accumulate(label)
        with label(OPTIMISER):
            self.optimiser.step()
        del outputs  # lived until here, as in nnU-Net

    def reset(self) -> None:
        """Removes the gradients."""
        self.optimiser.zero_grad(set_to_none=True)

    def _accumulate(self, label: Label) -> Tensor | Sequence[Tensor]:
        with self.precision():
            outputs: Tensor | Sequence[Tensor] = self.network(self.image)
            self.targets = self.targets or make_targets(outputs)
            with label(LOSS):
                loss = supervised_loss(outputs, self.targets)
        # an edge instead of a tensor: with the latter, modes of torch functions do not reach into the backward pass
        torch.autograd.backward(torch.autograd.graph.get_gradient_edge(loss), torch.ones_like(loss))
        return outputs


def make_targets(outputs: Tensor | Sequence[Tensor]) -> list[Tensor]:
    """Bool tensors of the outputs' shapes."""
    maps = [outputs] if isinstance(outputs, Tensor) else outputs
    return [torch.zeros(o.shape, dtype=torch.bool, device=o.device) for o in maps]


def make_optimiser(name: str, parameters: Iterable[Parameter], foreach: bool) -> Optimizer:
    """An optimiser whose state exists already, as after the first step.

    Args:
        name: see ``OPTIMISERS``.
        parameters: of the network.
        foreach: whether it works on all tensors at once, with copies of all gradients, as it does on CUDA.
    """
    parameters = list(parameters)
    optimiser = OPTIMISERS[name](parameters, foreach=foreach)
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return optimiser


def state_of(optimiser: Optimizer) -> list[Tensor]:
    """The tensors that an optimiser keeps from step to step."""
    return [v for state in optimiser.state.values() for v in state.values() if isinstance(v, Tensor)]
