"""Which layers of a network have maps, and at which of them a family is explained by default.

A layer is a module by its name, as ``named_modules`` gives it. What it gives must be a map (B, C, ...) at one of the
plan's resolutions; transformers also pass tokens, which are none.
"""

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from torch import Tensor, nn

from nnunet_ext.coordinates.configuration import CoordinateConfiguration
from nnunet_ext.coordinates.field import AXES
from nnunet_ext.explain.watching import Watched
from nnunet_ext.explain.window import bare
from nnunet_ext.trainers.grammar import parse

BRANCHES = "encoder.branches.*.-1"
DEFAULTS: Mapping[str, tuple[str, ...]] = {
    # class of a declared network -> the first of these that it has; -1 is the last of a list, * each of it
    "unet.BranchUNet": (BRANCHES, "encoder.trunk.-1"),
    "modality_attention.ModalityAttentionUNet": (BRANCHES,),
    # the transformer's own deepest map is tokens; this is the first map of all that it has seen
    "unetr.UNETR": ("decoder.stages.0",),
    "swin_unetr.SwinUNETR": ("encoder.skips.-1",),
    "mobile_unetr.MobileUNETR": ("encoder.stages.-1",),
}
OTHERS = ("encoder.stages.-1",)
"""Of networks that are not ours: the deepest encoder stage of nnU-Net's own."""


def default_layers(predictor: nnUNetPredictor) -> dict[str, str]:
    """What is explained if nothing is asked for: name of a map -> layer.

    The deepest stage of the encoder; where the encoder has branches the last stage before their fusion, one map each,
    named by the modalities that the branch reads.

    Raises:
        ValueError: a network that is not ours and has no such layer.
    """
    network: Any = bare(predictor.network)
    ours = parse(predictor.trainer_name)
    for pattern in DEFAULTS[ours.spec.network] if ours else OTHERS:
        found = matching(network, pattern)
        if found and pattern == BRANCHES:
            names = ["-".join(modalities) for modalities in network.encoder.branch_modalities]
            return dict(zip(names, found, strict=True))
        if found:
            return {"": found[0]}
    raise ValueError(
        f"{predictor.trainer_name} has no layer {OTHERS[0]}, where networks like nnU-Net's are explained; choose with "
        "--layer, see --layers."
    )


def default_method(layers: Sequence[str]) -> str:
    """Grad-CAM, or HiResCAM where it would be void: at the end of a branch; see :mod:`.gradcam`."""
    return "hirescam" if any(layer.startswith("encoder.branches.") for layer in layers) else "gradcam"


def matching(network: nn.Module, pattern: str) -> list[str]:
    """Names of the modules that a pattern of DEFAULTS means in a network."""
    names = [""]
    for word in pattern.split("."):
        names = [f"{name}.{child}".lstrip(".") for name in names for child in _children(network, name, word)]
    return names


def _children(network: nn.Module, name: str, word: str) -> list[str]:
    there = [child for child, _ in network.get_submodule(name).named_children()]
    if word == "*":
        return there
    if word == "-1":
        return there[-1:]
    return [word] if word in there else []


def maps_of(predictor: nnUNetPredictor) -> dict[str, tuple[int, ...]]:
    """Every layer that has a map, in the order of the network's modules -> its shape (C, ...) for a patch."""
    network = bare(predictor.network).to(predictor.device).eval()
    configuration = predictor.configuration_manager
    patch = tuple(configuration.patch_size)
    sizes = _resolutions(patch, configuration.pool_op_kernel_sizes)
    names = [name for name, _ in network.named_modules() if name]
    with torch.no_grad(), Watched(network, names) as seen:
        network(torch.zeros(1, input_channels(predictor), *patch, device=predictor.device))
    maps = {name: seen.maps[name] for name in names if name in seen.maps}
    return {name: tuple(m.shape[1:]) for name, m in maps.items() if _is_map(m, sizes)}


def input_channels(predictor: nnUNetPredictor) -> int:
    """Of the network: the image's, and coordinates where it reads them."""
    configuration = predictor.configuration_manager
    image: int = determine_num_input_channels(predictor.plans_manager, configuration, predictor.dataset_json)
    return image + AXES * isinstance(configuration, CoordinateConfiguration)


def _resolutions(patch: Sequence[int], strides: Sequence[Sequence[int]]) -> set[tuple[int, ...]]:
    """Sizes of a patch's maps."""
    size, found = tuple(patch), set()
    for stride in strides:
        size = tuple(n // s for n, s in zip(size, stride, strict=True))
        found.add(size)
    return found


def _is_map(found: Tensor, sizes: set[tuple[int, ...]]) -> bool:
    return tuple(found.shape[2:]) in sizes


def chosen_layers(predictor: nnUNetPredictor, names: Sequence[str]) -> dict[str, str]:
    """The layers of these names, or the default ones; name of a map -> layer.

    Raises:
        ValueError: a layer that is not there or has no map; with the nearest.
    """
    if not names:
        return default_layers(predictor)
    known = maps_of(predictor)
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=1, cutoff=0.4)
            hint = f"nearest: {near[0]}; " if near else ""
            raise ValueError(f"{predictor.trainer_name} has no map at a layer {name!r}; {hint}--layers lists all.")
    return {name: name for name in names} if len(names) > 1 else {"": names[0]}


def file_name(name: str) -> str:
    """A name of a region or a map as a part of a file's name."""
    return re.sub(r"[^A-Za-z0-9.+-]+", "_", name).strip("_")
