"""What pretrained weights gave a network, by name and shape."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

SAME, OTHER_SHAPE, MISSING, SURPLUS = "taken", "other shape", "not in the file", "not in the network"
SHOWN = 12  # lines of a kind: a network has hundreds of tensors


@dataclass(frozen=True)
class Match:
    """One tensor: its name, what became of it, its shapes in the network and in the file."""

    name: str
    fate: str
    here: tuple[int, ...] | None
    there: tuple[int, ...] | None


def match(network: Mapping[str, Tensor], file: Mapping[str, Tensor]) -> list[Match]:
    """Compares the tensors of a network and of a file; a name with an equal shape fits."""
    found = []
    for name in [*network, *(name for name in file if name not in network)]:
        here = tuple(network[name].shape) if name in network else None
        there = tuple(file[name].shape) if name in file else None
        fate = SURPLUS if here is None else MISSING if there is None else SAME if here == there else OTHER_SHAPE
        found.append(Match(name, fate, here, there))
    return found


def merged(network: Mapping[str, Tensor], file: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The network's tensors, each from the file where one of its name and shape is there."""
    fits = {found.name for found in match(network, file) if found.fate == SAME}
    return {name: file[name] if name in fits else value for name, value in network.items()}


def table(matches: list[Match], title: str) -> str:
    """What became of each tensor, for people: the sums, then those that do not fit."""
    lines = [title]
    for fate in (SAME, OTHER_SHAPE, MISSING, SURPLUS):
        of_kind = [found for found in matches if found.fate == fate]
        if of_kind:
            lines.append(f"  {fate}: {len(of_kind)} tensors")
        if fate == SAME:
            continue
        lines += [f"    {m.name}  network {_shape(m.here)}  file {_shape(m.there)}" for m in of_kind[:SHOWN]]
        if len(of_kind) > SHOWN:
            lines.append(f"    and {len(of_kind) - SHOWN} more")
    return "\n".join(lines)


def _shape(shape: tuple[int, ...] | None) -> str:
    return "-" if shape is None else "x".join(map(str, shape)) or "a number"


class Arrivals:
    """Notes which tensors are loaded into a network before its training, as nnU-Net's -pretrained_weights does.

    nnU-Net loads all names at once, its own values where it takes none from the file: what has changed was taken.
    """

    def __init__(self, network: nn.Module) -> None:
        self.came: dict[str, tuple[tuple[int, ...], bool]] = {}
        self._hook = network.register_load_state_dict_pre_hook(self._note)

    def _note(self, network: nn.Module, state: Mapping[str, Tensor], *_unused: object) -> None:
        own = network.state_dict()
        self.came = {
            name: (tuple(value.shape), not torch.equal(value.to(own[name].device), own[name]))
            for name, value in state.items()
            if name in own and value.shape == own[name].shape
        }

    def close(self) -> None:
        """Notes no more: what a training loads later is its own."""
        self._hook.remove()

    def table(self) -> str:
        """What was taken and what kept its initial value, by name and shape."""
        taken = [name for name, (_, changed) in self.came.items() if changed]
        kept = [name for name, (_, changed) in self.came.items() if not changed]
        lines = [f"Pretrained weights: {len(taken)} tensors are taken, {len(kept)} keep their initial values."]
        for title, names in (("taken", taken), ("initial", kept)):
            lines += [f"  {title}  {name}  {_shape(self.came[name][0])}" for name in names]
        return "\n".join(lines)
