"""Small networks and inputs that the tests of costs share."""

import torch
from torch import nn

from nnunet_ext.networks import registry
from nnunet_ext.networks.stock_plan import stock_plan

PATCH = (32, 32, 32)
STAGES = 4
FAMILIES = (
    "unet3d_xs",
    "dualbranch_04_unet_xs",
    "dualbranch_13_unet_xs",
    "dualbranch_14_ghostnet_xs",
    "dualbranch_14_mobilenetv2_expand2_xs",
    "dualbranch_14_convnext_xs",
    "dualbranch_14_shufflenetv2_lk_xs",
    "dualbranch_18_shufflenet_v1_xs",
    "quadbranch_4modal_attention_unet_xs",
    "unetr_xs",
    "swin_unetr_xs",
    "mobile_unetr_3d_xs",
)


def build(name: str, device: str = "meta", patch: tuple[int, ...] = PATCH) -> nn.Module:
    """A network of the registry for 4 channels, 3 outputs and four stages, with deep supervision."""
    spec, size = registry.find(name)
    with torch.device(device):
        plan = stock_plan(len(patch), STAGES)
        return registry.build(spec, 4, 3, plan, size=size, patch_size=patch, deep_supervision=True)
