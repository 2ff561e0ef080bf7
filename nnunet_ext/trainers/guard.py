"""Stops a training whose loss is no longer finite, before the weights change, and finds the layer that caused it."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

# with a scaler a loss that overflows halves the scale and skips the step: 65536 becomes 64 in so many
SKIPPED_STEPS = 10


class NonFiniteLossError(RuntimeError):
    """The training loss is NaN or infinite; the weights are those before the step."""


class FiniteLoss(nn.Module):
    """Any loss, checked: raises NonFiniteLossError in training, where a backward pass would follow.

    Args:
        loss: the loss.
        tolerated: so many losses in a row may be not finite, where a scaler skips their steps.
    """

    def __init__(self, loss: nn.Module, tolerated: int = 0) -> None:
        super().__init__()
        self.loss, self.tolerated, self.in_a_row = loss, tolerated, 0

    def forward(self, output: Any, target: Any) -> Tensor:
        """The loss of the network's output and nnU-Net's target."""
        value = self.loss(output, target)
        if value.requires_grad:
            self.in_a_row = 0 if torch.isfinite(value) else self.in_a_row + 1
            if self.in_a_row > self.tolerated:
                times = f" for the {self.in_a_row}th step in a row" if self.tolerated else ""
                raise NonFiniteLossError(f"the loss is {value.item()}{times}")
        return value


def first_non_finite(
    network: nn.Module, data: Tensor, context: AbstractContextManager[Any] | None = None, *, scaled: bool = False
) -> str:
    """Says in one clause where the first NaN or infinite value arises for this batch.

    Args:
        network: in the state in which the loss was not finite.
        data: the network's input (B, C, Z, Y, X).
        context: of the training step's forward pass, for what overflows in half precision does not in another.
        scaled: whether a scaler skips steps whose gradients are not finite; without one weights are looked at first.
    """
    if not torch.isfinite(data).all():
        return "the batch itself holds NaN or infinite values"
    if not scaled and (name := first_broken(network)) is not None:
        return f"the parameter {name} is not finite since an earlier step"
    found: list[str] = []
    with _watching(network, found), torch.no_grad(), context or nullcontext():
        network(data)
    if found:
        return f"the first layer with such values is {found[0]}"
    name = first_broken(network)
    return f"the parameter {name} is not finite" if name else "every layer's output is finite"


def first_broken(network: nn.Module) -> str | None:
    """The first parameter with a NaN or infinite value, or None."""
    return next((name for name, p in network.named_parameters() if not torch.isfinite(p).all()), None)


@contextmanager
def _watching(network: nn.Module, found: list[str]) -> Iterator[None]:
    """Collects the names of the leaf modules whose outputs are not finite, in the order of computation."""

    def note(name: str, module: nn.Module) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and not torch.isfinite(output).all():
                found.append(f"{name} ({type(module).__name__})")

        return hook

    leaves = [(n, m) for n, m in network.named_modules() if not any(True for _ in m.children())]
    handles = [module.register_forward_hook(note(name, module)) for name, module in leaves]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
