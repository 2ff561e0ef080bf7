"""ConvNeXt's block against timm's."""

import pytest
from timm.models.convnext import ConvNeXtBlock as TimmBlock

from nnunet_ext.networks.backbones.convnext import EPS, ConvNeXtBlock
from tests.networks.oracles import copy_weights, maps, operators, randomise

NAMES = {"depthwise": "conv_dw", "expand": "mlp.fc1", "project": "mlp.fc2"}


@pytest.mark.parametrize("size", [(9, 11), (12, 7)], ids=str)
@pytest.mark.parametrize("channels", [5, 8])
def test_block_is_timms(oracle_record, channels, size):
    theirs = randomise(TimmBlock(channels, ls_init_value=None))
    assert theirs.norm.eps == EPS
    ours = copy_weights(ConvNeXtBlock(operators(), channels, (3, 3)), theirs, NAMES)
    x = maps(2, channels, *size)
    oracle_record("ConvNeXt", "timm ConvNeXtBlock", f"block of {channels} channels", ours(x), theirs(x))
