"""Stages of a network: which of its modules belong together, and what they are called.

The names follow nnU-Net's: stages count from 1 at full resolution, ``decoder stage k`` works at the resolution of
``encoder stage k``, the deepest encoder stage is the bottleneck.
"""

import re
from collections.abc import Iterator
from typing import Any

from torch import nn


def stages_of(network: nn.Module) -> dict[nn.Module, str]:
    """Label of each module that is a stage: the children of the network, of its halves and of its lists of modules."""
    return {module: _label(network, path) for path, module in _parts(network, ())}


def stage_of_parameters(network: nn.Module, stages: dict[nn.Module, str], default: str) -> dict[nn.Parameter, str]:
    """Label of each parameter: its module's, or ``default`` where that is in no stage."""
    labels = {p: label for module, label in stages.items() for p in module.parameters()}
    return {p: labels.get(p, default) for p in network.parameters()}


def _parts(module: nn.Module, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], nn.Module]]:
    for name, child in module.named_children():
        where = (*path, name)
        # encoders of dynamic-network-architectures keep their stages in a Sequential
        if isinstance(child, nn.ModuleList) or where in {("encoder",), ("decoder",), ("encoder", "stages")}:
            yield from _parts(child, where)
        else:
            yield where, child


def _label(network: Any, path: tuple[str, ...]) -> str:
    words = " ".join(path)
    if match := re.fullmatch(r"encoder branches (\d+) (\d+)", words):
        modalities = network.encoder.branch_modalities[int(match[1])]
        return f"{'+'.join(modalities)} stage {int(match[2]) + 1}"
    if match := re.fullmatch(r"encoder fusions (\d+)", words):
        return f"fusion {int(match[1]) + 1}"
    if match := re.fullmatch(r"encoder (trunk|stages) (\d+)", words):
        return _encoder_stage(network, match[1], int(match[2]))
    if match := re.fullmatch(r"decoder (?:transpconvs|stages) (\d+)", words):
        return f"decoder stage {len(network.decoder.stages) - int(match[1])}"
    if words.startswith("decoder seg_layers"):
        return "heads"
    return re.sub(r"\d+$", lambda number: str(int(number[0]) + 1), words)


def _encoder_stage(network: Any, name: str, index: int) -> str:
    last = len(getattr(network.encoder, name)) - 1
    before = len(network.encoder.fusions) if name == "trunk" else 0
    return "bottleneck" if index == last else f"encoder stage {before + index + 1}"
