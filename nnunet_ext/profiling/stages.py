"""Stages of a network: which of its modules belong together, and what they are called.

The names follow nnU-Net's: stages count from 1 at full resolution, ``decoder stage k`` works at the resolution of
``encoder stage k``, the deepest encoder stage is the bottleneck. The blocks of UNETR's transformer, which all work at
one resolution, are one stage; the convolutions between an encoder's stage k and the decoder are ``skip k``.
"""

import re
from collections.abc import Callable, Iterator, Mapping
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
        if where == ("decoder", "encoder"):
            continue  # decoders of dynamic-network-architectures hold their encoder, whose stages are known already
        # encoders of dynamic-network-architectures keep their stages in a Sequential
        if isinstance(child, nn.ModuleList) or where in {("encoder",), ("decoder",), ("encoder", "stages")}:
            yield from _parts(child, where)
        else:
            yield where, child


def _label(network: Any, path: tuple[str, ...]) -> str:
    words = " ".join(path)
    for pattern, label in LABELS.items():
        if match := re.fullmatch(pattern, words):
            return label(network, match)
    # of a list the position, counted from 1; digits in a module's own name stay
    return re.sub(r"(?<= )\d+$", lambda number: str(int(number[0]) + 1), words)


def _branch_stage(network: Any, match: re.Match[str]) -> str:
    modalities = network.encoder.branch_modalities[int(match[1])]
    return f"{'+'.join(modalities)} stage {int(match[2]) + 1}"


def _encoder_stage(network: Any, match: re.Match[str]) -> str:
    name, index = match[1], int(match[2])
    if hasattr(network.encoder, "patch_embed"):  # takes the first step down; each stage ends with the next step
        return f"encoder stage {index + 2}"
    last = len(getattr(network.encoder, name)) - 1
    before = len(network.encoder.fusions) if name == "trunk" else 0
    return "bottleneck" if index == last else f"encoder stage {before + index + 1}"


def _decoder_stage(network: Any, match: re.Match[str]) -> str:
    first = getattr(network.decoder, "first_stage", 1)  # some decode nothing at full resolution
    return f"decoder stage {len(network.decoder.stages) - int(match[1]) + first - 1}"


# words of a module's path -> its label
LABELS: Mapping[str, Callable[[Any, re.Match[str]], str]] = {
    r"encoder branches (\d+) (\d+)": _branch_stage,
    r"encoder (fusion|skip|gate)s (\d+)": lambda _, match: f"{match[1]} {int(match[2]) + 1}",
    r"encoder (trunk|stages) (\d+)": _encoder_stage,
    r"encoder patch_embed": lambda *_: "patch embedding",
    r"encoder (?:blocks \d+|norm)": lambda *_: "transformer",
    r"decoder (?:transpconvs|stages) (\d+)": _decoder_stage,
    r"decoder seg_layers.*": lambda *_: "heads",
}
