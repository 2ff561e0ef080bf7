"""Networks of other projects, to stand in the same table.

nnU-Net's own are built from what its planners plan for BraTS (median 137x168x137 voxels of 1 mm; a test asks the
planners again), MONAI's with the sizes of their papers. MONAI is optional: ``pip install "nnunet_ext[peers]"``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import torch
from torch import nn

from nnunet_ext.networks.stock_plan import PATCHES, stock_plan

DNA = "dynamic_network_architectures.architectures.unet"
MONAI = "monai.networks.nets"
RESIDUAL_BLOCKS = (1, 3, 4, 6, 6, 6)  # per encoder stage, of nnU-Net's ResEnc planners; one per decoder stage
MEDNEXT: Mapping[str, Mapping[str, Any]] = {  # Roy et al. 2023, arXiv:2303.09975, table 1
    "s": {"expansion": [2] * 9, "blocks": [2] * 9},
    "b": {"expansion": [2, 3, 4, 4, 4, 4, 4, 3, 2], "blocks": [2] * 9},
    "m": {"expansion": [2, 3, 4, 4, 4, 4, 4, 3, 2], "blocks": [3, 4, 4, 4, 4, 4, 4, 4, 3]},
    "l": {"expansion": [3, 4, 8, 8, 8, 8, 8, 4, 3], "blocks": [3, 4, 8, 8, 8, 8, 8, 4, 3]},
}


@dataclass(frozen=True)
class Peer:
    """A network of another project.

    Attributes:
        path: module and class.
        options: keyword arguments of the class beside channels and outputs.
        plan: whether it is built from an nnU-Net plan.
        patch, batch: what its own planner chose; used unless the user names a patch.
        divisor: of the patch, on every axis; None where the plan's strides say.
        sized: whether the class wants the patch.
    """

    path: tuple[str, str]
    options: Mapping[str, Any] = field(default_factory=dict)
    plan: bool = False
    patch: tuple[int, ...] = PATCHES[3]
    batch: int = 2
    divisor: int | None = None
    sized: bool = False


def _resenc(patch: tuple[int, ...], batch: int) -> Peer:
    blocks = {"n_blocks_per_stage": RESIDUAL_BLOCKS, "n_conv_per_stage_decoder": (1,) * len(RESIDUAL_BLOCKS)}
    return Peer((DNA, "ResidualEncoderUNet"), blocks, plan=True, patch=patch, batch=batch)


def _mednext(size: str) -> Peer:
    expansion, blocks = MEDNEXT[size]["expansion"], MEDNEXT[size]["blocks"]
    options = {
        "encoder_expansion_ratio": expansion[:4],
        "bottleneck_expansion_ratio": expansion[4],
        "decoder_expansion_ratio": expansion[5:],
        "blocks_down": blocks[:4],
        "blocks_bottleneck": blocks[4],
        "blocks_up": blocks[5:],
        "kernel_size": 3,
        "use_residual_connection": True,
        "deep_supervision": True,
    }
    return Peer((MONAI, "MedNeXt"), options, divisor=16)


PEERS: Mapping[str, Peer] = {
    "nnunet_plain": Peer((DNA, "PlainConvUNet"), plan=True),
    "nnunet_resenc_m": _resenc(PATCHES[3], 2),
    "nnunet_resenc_l": _resenc((160, 192, 160), 3),
    "monai_swinunetr_24": Peer((MONAI, "SwinUNETR"), {"feature_size": 24}, divisor=32),
    "monai_swinunetr_48": Peer((MONAI, "SwinUNETR"), {"feature_size": 48}, divisor=32),
    "monai_unetr": Peer((MONAI, "UNETR"), divisor=16, sized=True),
    "monai_segresnet": Peer((MONAI, "SegResNet"), {"init_filters": 16}, divisor=8),
    **{f"monai_mednext_{size}": _mednext(size) for size in MEDNEXT},
}


def build_peer(
    peer: Peer, channels: int, outputs: int, patch: Sequence[int], strides: Sequence[Sequence[int]] = ()
) -> nn.Module:
    """The network on the current device, with deep supervision where it has it.

    Raises:
        ValueError: MONAI is not installed.
    """
    if peer.plan:
        return _from_plan(peer, channels, outputs, strides)
    options = dict(peer.options)
    if peer.sized:
        options["img_size"] = tuple(patch)
    if "norm_name" not in options and peer.path[1] == "SwinUNETR":
        # its drop-path rates are read from a tensor, which a meta tensor has not
        with torch.device("cpu"):
            network = _class(peer)(in_channels=channels, out_channels=outputs, **options)
        return network.to(torch.empty(0).device)
    return _class(peer)(in_channels=channels, out_channels=outputs, **options)


def _from_plan(peer: Peer, channels: int, outputs: int, strides: Sequence[Sequence[int]]) -> nn.Module:
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    stages = len(strides)
    plan = {**stock_plan(len(strides[0]), stages), "strides": strides}
    if blocks := peer.options.get("n_blocks_per_stage"):
        del plan["n_conv_per_stage"]
        plan["n_blocks_per_stage"] = blocks[:stages]
        plan["n_conv_per_stage_decoder"] = peer.options["n_conv_per_stage_decoder"][: stages - 1]
    network: nn.Module = get_network_from_plans(
        ".".join(peer.path), plan, ("conv_op", "norm_op", "dropout_op", "nonlin"), channels, outputs, True, True
    )
    return network


def _class(peer: Peer) -> Callable[..., nn.Module]:
    try:
        found: Callable[..., nn.Module] = getattr(import_module(peer.path[0]), peer.path[1])
    except ModuleNotFoundError as error:
        raise ValueError(f'{peer.path[1]} is MONAI\'s; install it with `pip install "nnunet_ext[peers]"`.') from error
    return found
