"""Blocks of the light families in 2D against the implementations of torchvision, timm and pytorchcv."""

import pytest
import torch
from pytorchcv.models.shufflenet import ShuffleUnit as PytorchcvUnit
from timm.models._efficientnet_blocks import InvertedResidual as TimmResidual
from torch import nn
from torchvision.models.mobilenetv2 import InvertedResidual as TorchvisionResidual
from torchvision.models.shufflenetv2 import InvertedResidual as TorchvisionUnit
from torchvision.models.shufflenetv2 import channel_shuffle

from nnunet_ext.networks.backbones import shufflenet, shufflenetv2
from nnunet_ext.networks.backbones.mobilenetv2 import InvertedResidual, ShuffledResidual
from tests.networks.oracles import copy_weights, maps, operators, randomise

SIZES = [(9, 11), (12, 7)]
TORCHVISION = {"expand.conv": "conv.0.0", "expand.norm": "conv.0.1", "depthwise.conv": "conv.1.0"}
TORCHVISION |= {"depthwise.norm": "conv.1.1", "project.conv": "conv.2", "project.norm": "conv.3"}
TIMM = {"expand.conv": "conv_pw", "expand.norm": "bn1", "depthwise.conv": "conv_dw", "depthwise.norm": "bn2"}
TIMM |= {"project.conv": "conv_pwl", "project.norm": "bn3"}
PYTORCHCV = {"compress.conv": "compress_conv1", "compress.norm": "compress_bn1", "depthwise.conv": "dw_conv2"}
PYTORCHCV |= {"depthwise.norm": "dw_bn2", "expand.conv": "expand_conv3", "expand.norm": "expand_bn3"}
SHUFFLENETV2 = {
    f"{ours}.{i}.{part}": f"{theirs}.{j}"
    for ours, theirs, rows in (("shortcut", "branch1", (0, 2)), ("branch", "branch2", (0, 3, 5)))
    for i, first in enumerate(rows)
    for part, j in (("conv", first), ("norm", first + 1))
}
WIDER = {"kernel 3": {}, "dilation 2": {"dilation": 2}, "dilation 5": {"dilation": 5}, "kernel 7": {"kernel": 7}}


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(("in_channels", "out_channels", "stride"), [(6, 6, 1), (6, 10, 1), (6, 6, 2), (6, 10, 2)])
def test_inverted_residual_is_torchvisions(oracle_record, in_channels, out_channels, stride, size):
    theirs = randomise(TorchvisionResidual(in_channels, out_channels, stride, expand_ratio=2))
    ours = InvertedResidual(operators(act=nn.ReLU6), in_channels, out_channels, kernel_size=(3, 3), stride=stride)
    copy_weights(ours, theirs, TORCHVISION)
    x = maps(2, in_channels, *size)
    what = f"inverted residual {in_channels} to {out_channels}, stride {stride}"
    oracle_record("MobileNetV2", "torchvision InvertedResidual", what, ours(x), theirs(x))


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dilation", [2, 5])
def test_dilated_inverted_residual_is_timms(oracle_record, dilation, stride, size):
    theirs = randomise(TimmResidual(8, 8, stride=stride, dilation=dilation, exp_ratio=2))
    ours = InvertedResidual(operators(), 8, 8, kernel_size=(3, 3), stride=stride, dilation=dilation)
    copy_weights(ours, theirs, TIMM)
    x = maps(2, 8, *size)
    what = f"inverted residual, dilation {dilation}, stride {stride}"
    oracle_record("MobileNetV2, dilated", "timm InvertedResidual", what, ours(x), theirs(x))


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_shuffled_residual_is_timms_block_and_torchvisions_shuffle(oracle_record, size):
    theirs = randomise(TimmResidual(4, 4, dilation=2, exp_ratio=2))
    ours = ShuffledResidual(operators(), 8, kernel_size=(3, 3), dilation=2)
    copy_weights(ours.block, theirs, TIMM)
    x = maps(2, 8, *size)
    expected = channel_shuffle(torch.cat((x[:, :4], theirs(x[:, 4:])), 1), 2)
    oracle = "timm InvertedResidual, torchvision channel_shuffle"
    oracle_record("MobileNetV2, dilated", oracle, "shuffled residual", ours.eval()(x), expected)


def torchvision_unit(in_channels, out_channels, stride, kernel=3, dilation=1):
    """torchvision's unit with its depthwise convolutions exchanged for other ones."""
    unit = TorchvisionUnit(in_channels, out_channels, stride)
    options = {"padding": kernel // 2 * dilation, "dilation": dilation, "bias": False, "stride": stride}
    half = out_channels // 2
    unit.branch2[3] = nn.Conv2d(half, half, kernel, groups=half, **options)
    if stride > 1:
        unit.branch1[0] = nn.Conv2d(in_channels, in_channels, kernel, groups=in_channels, **options)
    return randomise(unit)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(("in_channels", "out_channels", "stride"), [(8, 8, 1), (8, 8, 2), (6, 16, 2)])
@pytest.mark.parametrize("wider", WIDER.values(), ids=WIDER)
def test_shufflenetv2_unit_is_torchvisions(oracle_record, wider, in_channels, out_channels, stride, size):
    theirs = torchvision_unit(in_channels, out_channels, stride, **wider)
    kernel = wider.get("kernel", 3)
    ours = shufflenetv2.ShuffleUnit(
        operators(),
        in_channels,
        out_channels,
        kernel_size=(kernel, kernel),
        stride=(stride, stride),
        dilation=wider.get("dilation", 1),
    )
    copy_weights(ours, theirs, SHUFFLENETV2)
    x = maps(2, in_channels, *size)
    family = "ShuffleNetV2" + (f", {next(iter(wider))} {next(iter(wider.values()))}" if wider else "")
    what = f"unit {in_channels} to {out_channels}, stride {stride}"
    oracle_record(family, "torchvision InvertedResidual", what, ours(x), theirs(x))


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(("groups", "first"), [(2, None), (2, 1), (3, None), (3, 1)])
@pytest.mark.parametrize(("in_channels", "out_channels", "stride"), [(24, 24, 1), (12, 24, 2)])
def test_shufflenet_unit_is_pytorchcvs(oracle_record, in_channels, out_channels, stride, groups, first, size):
    theirs = randomise(PytorchcvUnit(in_channels, out_channels, groups, stride == 2, first == 1))
    ours = shufflenet.ShuffleUnit(
        operators(),
        in_channels,
        out_channels,
        kernel_size=(3, 3),
        stride=(stride, stride),
        groups=groups,
        first_groups=first,
    )
    copy_weights(ours, theirs, PYTORCHCV)
    x = maps(2, in_channels, *size)
    what = f"unit {in_channels} to {out_channels}, stride {stride}, {groups} groups, {first or groups} at the entry"
    oracle_record("ShuffleNet v1", "pytorchcv ShuffleUnit", what, ours(x), theirs(x))


def test_shufflenet_unit_with_capped_channels_is_summed_with_its_pooled_input():
    unit = randomise(shufflenet.ShuffleUnit(operators(), 8, 8, kernel_size=(3, 3), stride=(2, 2)))
    x = maps(2, 8, 9, 11)
    with torch.no_grad():
        unit.expand.norm.weight.zero_()
        unit.expand.norm.bias.fill_(1.0)
    expected = (1 + nn.functional.avg_pool2d(x, 3, 2, 1)).relu()
    torch.testing.assert_close(unit(x), expected)
