"""GhostNet's parts against timm's."""

import pytest
from timm.models.ghostnet import GhostBottleneck as TimmBottleneck
from timm.models.ghostnet import GhostModule as TimmModule
from torch import nn

from nnunet_ext.networks.backbones.ghost import GhostBottleneck, GhostModule
from tests.networks.oracles import copy_weights, maps, operators, randomise

GHOST = {
    "primary.conv": "primary_conv.0",
    "primary.norm": "primary_conv.1",
    "cheap.conv": "cheap_operation.0",
    "cheap.norm": "cheap_operation.1",
}
BOTTLENECK = {f"{part}.{ours}": f"{part}.{theirs}" for part in ("ghost1", "ghost2") for ours, theirs in GHOST.items()}
BOTTLENECK |= {"depthwise.conv": "conv_dw", "depthwise.norm": "bn_dw"}
BOTTLENECK |= {"shortcut.0.conv": "shortcut.0", "shortcut.0.norm": "shortcut.1"}
BOTTLENECK |= {"shortcut.1.conv": "shortcut.2", "shortcut.1.norm": "shortcut.3"}


@pytest.mark.parametrize("act", [True, False])
@pytest.mark.parametrize("out_channels", [8, 7])
def test_module_is_timms(oracle_record, out_channels, act):
    theirs = randomise(TimmModule(5, out_channels, act_layer=nn.ReLU if act else nn.Identity))
    ours = GhostModule(operators(), 5, out_channels, kernel_size=(3, 3), act=act)
    copy_weights(ours, theirs, GHOST)
    x = maps(2, 5, 9, 11)
    what = f"module, {out_channels} channels, {'with' if act else 'without'} activation"
    oracle_record("GhostNet", "timm GhostModule", what, ours(x), theirs(x))


@pytest.mark.parametrize(("in_channels", "out_channels", "stride"), [(6, 6, 1), (6, 9, 1), (6, 9, 2), (5, 5, 2)])
def test_bottleneck_is_timms(oracle_record, in_channels, out_channels, stride):
    theirs = randomise(TimmBottleneck(in_channels, 11, out_channels, stride=stride))
    ours = GhostBottleneck(operators(), in_channels, 11, out_channels, kernel_size=(3, 3), stride=(stride, stride))
    copy_weights(ours, theirs, BOTTLENECK)
    x = maps(2, in_channels, 9, 11)
    what = f"bottleneck {in_channels} to {out_channels}, stride {stride}"
    oracle_record("GhostNet", "timm GhostBottleneck", what, ours(x), theirs(x))
