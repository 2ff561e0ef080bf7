"""The lowest output of deep supervision under DDP: as in one process, where it counts nothing and nothing changes it.

nnU-Net's loss leaves the lowest output out. DDP waits for a gradient of every parameter, so nnU-Net gives that output a
weight of 1e-6 when several processes train, and then they are not one process with the same batch any more.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from torch import Tensor, nn


class LowestOutputUsed(DeepSupervisionWrapper):
    """A loss under deep supervision whose lowest output has a gradient, for DDP, that is zero."""

    def __init__(self, loss: nn.Module, weight_factors: Sequence[float]) -> None:
        super().__init__(loss, weight_factors)
        self.alone: list[Tensor] | None = None  # parameters on which nothing but the lowest output depends

    def forward(self, output: list[Tensor], target: list[Tensor]) -> Tensor:
        """The loss of the outputs, high to low resolution."""
        value: Tensor = super().forward(output, target)
        if self.alone is None and value.requires_grad:
            counted = {id(parameter) for parameter in _parameters(value)}
            self.alone = [parameter for parameter in _parameters(output[-1]) if id(parameter) not in counted]
        return value + 0 * output[-1].sum()

    def forget_gradients(self, *_: Any) -> None:
        """Before the optimiser's step: a gradient of zero would have it apply weight decay and momentum."""
        for parameter in self.alone or ():
            parameter.grad = None


def _parameters(result: Tensor) -> Iterator[Tensor]:
    """The leaves of autograd's graph of a result."""
    waiting, seen = [result.grad_fn], set()
    while waiting:
        node: Any = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            yield node.variable
        waiting += [following for following, _ in node.next_functions]
