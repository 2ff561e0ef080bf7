"""Keeping what modules of a network give in a forward pass."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


class Watched:
    """Within, ``maps`` holds what each of these modules has given last, as part of the graph.

    What goes on through the network is a copy: foreign networks apply activations in place.

    Args:
        network: whose modules they are.
        names: of modules; one that gives no tensor, or is not called, has no map.
    """

    def __init__(self, network: nn.Module, names: Sequence[str]) -> None:
        self.maps: dict[str, Tensor] = {}
        self._modules = {name: network.get_submodule(name) for name in names}
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> "Watched":
        for name, module in self._modules.items():
            self._handles.append(module.register_forward_hook(self._keeper(name)))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _keeper(self, name: str) -> Any:
        def keep(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            if not isinstance(output, Tensor):
                return None
            self.maps[name] = output
            return output.clone()

        return keep
