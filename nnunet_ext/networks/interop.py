"""MONAI's UNETR and SwinUNETR weights (https://github.com/Project-MONAI/MONAI, >= 1.5) in our networks.

Both libraries' modules are paired by name; a SwinUNETR file of self-supervised pretraining, which holds the
transformer alone and names its perceptron otherwise, is read as well. The order of neighbours in patch merging is that
of ``downsample="merging"``, MONAI's default: a file made with ``"mergingv2"`` has the same names and shapes, but does
not fit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

from nnunet_ext.networks import unetr
from nnunet_ext.networks.swin_unetr import DEPTH, SwinUNETR
from nnunet_ext.networks.unetr import UNETR

RESIDUAL_BLOCK = {
    "conv1.conv": "conv1.conv",
    "norm1": "conv1.norm",
    "conv2.conv": "conv2.conv",
    "norm2": "conv2.norm",
    "conv3.conv": "shortcut.conv",
    "norm3": "shortcut.norm",
}
TRANSFORMER_BLOCK = {
    "norm1": "norm1",
    "attn.qkv": "attention.qkv",
    "attn.proj": "attention.proj",
    "attn.out_proj": "attention.proj",
    "attn.relative_position_bias_table": "attention.bias_table",
    "norm2": "norm2",
    "mlp.linear1": "mlp.fc1",
    "mlp.linear2": "mlp.fc2",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
POSITION = "encoder.position"
READ_THE_INPUT = (
    "encoder.patch_embed.weight",
    "encoder.skips.0.conv1.conv.weight",
    "encoder.skips.0.shortcut.conv.weight",
)


@dataclass
class Import:
    """What became of each tensor.

    Attributes:
        weights: the network's whole state dict, with what the file had for it.
        matched: names here that were taken from the file.
        shape_differs: name here -> the file's shape.
        missing: names here that the file has nothing for; they keep the network's initial values.
        unused: names in the file that have no place here.
        input_channels: how many the file's network reads, or None if its first layer is not in the file.
    """

    weights: dict[str, Tensor]
    matched: list[str] = field(default_factory=list)
    shape_differs: dict[str, tuple[int, ...]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    input_channels: int | None = None


def import_monai(
    network: nn.Module, state: Mapping[str, Tensor], channels: Sequence[int | None] | None = None
) -> Import:
    """Fits a MONAI state dict to a network, which is not changed.

    Args:
        network: one of ours, initialised.
        state: names and tensors of the file, with or without the prefix ``module.`` of data-parallel training.
        channels: for each input channel of the network, its channel in the file, or None if the file does not have
            it, as for channels beyond the last one given; None altogether if the input channels are the same.

    Raises:
        ValueError: the network is neither UNETR nor SwinUNETR.
    """
    names = monai_names(network)
    result = Import({name: value.clone() for name, value in network.state_dict().items()})
    for key, value in state.items():
        name = _our_name(key.removeprefix("module."), names)
        if name == READ_THE_INPUT[0]:
            result.input_channels = value.shape[1]
        if name not in result.weights:
            result.unused.append(key)
        elif _copy(name, value, result.weights[name], channels if name in READ_THE_INPUT else None):
            result.matched.append(name)
        else:
            result.shape_differs[name] = tuple(value.shape)
    found = {*result.matched, *result.shape_differs}
    result.missing = [name for name in result.weights if name not in found]
    return result


def monai_names(network: nn.Module) -> dict[str, str]:
    """Modules (and bare parameters) of MONAI's network -> those of ours.

    Raises:
        ValueError: the network is neither UNETR nor SwinUNETR.
    """
    if isinstance(network, SwinUNETR):
        return _swin_names(deepest=len(network.encoder.skips) - 1)
    if isinstance(network, UNETR):
        return _unetr_names(deepest=len(network.encoder.skips))
    raise ValueError(f"{type(network).__name__} has no counterpart in MONAI; name a trainer of UNETR or SwinUNETR.")


def _swin_names(deepest: int) -> dict[str, str]:
    names = _decoder_names(deepest, first=1)
    for root in ("swinViT.", ""):
        names[f"{root}patch_embed.proj"] = "encoder.patch_embed"
        for i in range(deepest - 1):
            theirs, ours = f"{root}layers{i + 1}.0", f"encoder.stages.{i}"
            names |= _inside(f"{theirs}.downsample", f"{ours}.merging", {n: n for n in ("norm", "reduction")})
            for j in range(DEPTH):
                names |= _inside(f"{theirs}.blocks.{j}", f"{ours}.blocks.{j}", TRANSFORMER_BLOCK)
    for level in range(deepest - 1):
        names |= _inside(f"encoder{level + 1}.layer", f"encoder.skips.{level}", RESIDUAL_BLOCK)
    return names | _inside("encoder10.layer", f"encoder.skips.{deepest}", RESIDUAL_BLOCK)


def _unetr_names(deepest: int) -> dict[str, str]:
    names = _decoder_names(deepest, first=2)
    names["vit.patch_embedding.patch_embeddings"] = "encoder.patch_embed"
    names["vit.patch_embedding.position_embeddings"] = POSITION
    names["vit.norm"] = "encoder.norm"
    for i in range(unetr.DEPTH):
        names |= _inside(f"vit.blocks.{i}", f"encoder.blocks.{i}", TRANSFORMER_BLOCK)
    names |= _inside("encoder1.layer", "encoder.skips.0", RESIDUAL_BLOCK)
    for level in range(1, deepest):
        theirs, ours = f"encoder{level + 1}", f"encoder.skips.{level}"
        names[f"{theirs}.transp_conv_init.conv"] = f"{ours}.0"
        for i in range(deepest - 1 - level):
            names[f"{theirs}.blocks.{i}.0.conv"] = f"{ours}.{2 * i + 1}"
            names |= _inside(f"{theirs}.blocks.{i}.1", f"{ours}.{2 * i + 2}", RESIDUAL_BLOCK)
    return names


def _decoder_names(deepest: int, first: int) -> dict[str, str]:
    """The decoder's; MONAI's block of the full resolution has the number ``first``, ours is the last."""
    names = {"out.conv.conv": f"decoder.seg_layers.{deepest - 1}"}
    for level in range(deepest):
        theirs, stage = f"decoder{level + first}", deepest - 1 - level
        names[f"{theirs}.transp_conv.conv"] = f"decoder.transpconvs.{stage}"
        names |= _inside(f"{theirs}.conv_block", f"decoder.stages.{stage}", RESIDUAL_BLOCK)
    return names


def _inside(theirs: str, ours: str, modules: Mapping[str, str]) -> dict[str, str]:
    return {f"{theirs}.{a}": f"{ours}.{b}" for a, b in modules.items()}


def _our_name(key: str, names: Mapping[str, str]) -> str | None:
    module, _, parameter = key.rpartition(".")
    return names.get(key) or (f"{names[module]}.{parameter}" if module in names else None)


def _copy(name: str, value: Tensor, target: Tensor, channels: Sequence[int | None] | None) -> bool:
    """Copies ``value`` where it fits; says whether it did."""
    if name == POSITION and value.numel() == target.numel():
        value = value.transpose(1, 2).reshape(target.shape)  # (1, N, C) -> (1, C, Z, Y, X)
    if channels is not None:
        return _copy_channels(value, target, [(i, c) for i, c in enumerate(channels) if c is not None])
    if value.shape != target.shape:
        return False
    target.copy_(value)
    return True


def _copy_channels(value: Tensor, target: Tensor, pairs: Sequence[tuple[int, int]]) -> bool:
    """The same for the input channels (here, in the file) of a layer that reads the input."""
    if max(theirs for _, theirs in pairs) >= value.shape[1] or value[:, 0].shape != target[:, 0].shape:
        return False
    for ours, theirs in pairs:
        target[:, ours] = value[:, theirs]
    return True
