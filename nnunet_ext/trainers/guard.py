"""Stops a training whose loss is no longer finite, before the backward pass, and finds the layer that caused it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class NonFiniteLossError(RuntimeError):
    """The training loss is NaN or infinite; the weights are those before the step."""


class FiniteLoss(nn.Module):
    """Any loss, checked: raises NonFiniteLossError in training, where a backward pass would follow."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, output: Any, target: Any) -> Tensor:
        """The loss of the network's output and nnU-Net's target."""
        value = self.loss(output, target)
        if value.requires_grad and not torch.isfinite(value):
            raise NonFiniteLossError(f"the loss is {value.item()}")
        return value


def first_non_finite(network: nn.Module, data: Tensor) -> str:
    """Says in one clause where the first NaN or infinite value arises for this batch.

    Args:
        network: in the state in which the loss was not finite.
        data: the network's input (B, C, Z, Y, X).
    """
    if not torch.isfinite(data).all():
        return "the batch itself holds NaN or infinite values"
    found: list[str] = []
    with _watching(network, found), torch.no_grad():
        network(data)
    return f"the first layer with such values is {found[0]}" if found else "every layer's output is finite"


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
