"""MobileUNETR: its 2D encoder is timm's MobileViT, its 3D form the 2D one, its decoder the parts in their order."""

import pytest
import timm
import torch
from torch import nn

from nnunet_ext.networks.backbones.mobilevit import PatchAttention
from nnunet_ext.networks.mobile_unetr import MobileUNETR
from nnunet_ext.networks.topology import Topology
from tests.networks.oracles import copy_permuted, copy_weights, maps, permuted, randomise, slicewise

XXS = 8  # our width of the size that the papers call xxs
RESIDUAL = {"expand.norm": "conv1_1x1.bn", "expand": "conv1_1x1", "depthwise.norm": "conv2_kxk.bn"}
RESIDUAL |= {"depthwise": "conv2_kxk", "project.norm": "conv3_1x1.bn", "project": "conv3_1x1"}
VIT = {"local.norm": "conv_kxk.bn", "local": "conv_kxk", "widen": "conv_1x1", "attention.norm": "norm"}
VIT |= {f"attention.layers.{i}.attention": f"transformer.{i}.attn" for i in range(4)}
VIT |= {f"attention.layers.{i}": f"transformer.{i}" for i in range(4)}
VIT |= {"project.norm": "conv_proj.bn", "project": "conv_proj"}
VIT |= {"fusion.norm": "conv_fusion.bn", "fusion": "conv_fusion"}


def topology(dims=3, stages=5, kernel=(3, 3, 3), stride=(2, 2, 2), **operators):
    """Every level but the first has this stride; kernels and strides are (z, y, x)."""
    kernel, stride = kernel[-dims:], stride[-dims:]
    operators = {"norm_op": (nn.BatchNorm2d, nn.BatchNorm3d)[dims - 2], "nonlin": nn.SiLU, **operators}
    return Topology(
        conv_op=(nn.Conv2d, nn.Conv3d)[dims - 2],
        strides=((1,) * dims,) + (stride,) * (stages - 1),
        kernel_sizes=(kernel,) * stages,
        conv_bias=False,
        **operators,
    )


def names(encoder):
    """Ours to timm's, for all levels but the first and the entry of the second, which timm has not."""
    found = {}
    for level, stage in enumerate(encoder.stages[1:]):
        for i, block in enumerate(stage[1:] if level == 0 else stage):
            parts = RESIDUAL if hasattr(block, "expand") else VIT
            where = f"{level}.{i + (level == 0)}", f"{level}.{i}"
            found |= {f"{where[0]}.{ours}": f"{where[1]}.{theirs}" for ours, theirs in parts.items()}
    return found


def test_encoder_is_timms_mobilevit_xxs(oracle_record):
    theirs = randomise(timm.create_model("mobilevit_xxs"))
    ours = MobileUNETR(3, 2, topology(2, 6), width=XXS).encoder
    body = nn.ModuleList([nn.Sequential(nn.Identity(), *ours.stages[1][1:]), *ours.stages[2:]])
    copy_weights(body, theirs.stages, names(ours))
    found = expected = maps(1, 16, 64, 128)
    for level, (stage, timms) in enumerate(zip(body, theirs.stages, strict=True), 1):
        found, expected = stage(found), timms(expected)
        oracle_record("MobileUNETR", "timm mobilevit_xxs", f"encoder level {level}", found, expected)


def composed(network, x):
    """The network in the order of its figure; both halves' lists run in the order of computation."""
    encoder, decoder = network.encoder, network.decoder
    one = encoder.stages[0](x)
    two = encoder.stages[1](one)
    four = encoder.stages[2](two)
    eight = encoder.stages[3](four)
    sixteen = encoder.stages[4](eight)
    up8 = decoder.stages[0](torch.cat((decoder.transpconvs[0](sixteen), eight), 1))
    up4 = decoder.stages[1](torch.cat((decoder.transpconvs[1](up8), four), 1))
    up2 = decoder.stages[2](torch.cat((decoder.transpconvs[2](up4), two), 1))
    up1 = decoder.stages[3](torch.cat((decoder.transpconvs[3](up2), one), 1))
    return [head(up) for head, up in zip(decoder.seg_layers, (up8, up4, up2, up1), strict=True)][::-1]


def test_every_level_is_decoded():
    network = randomise(MobileUNETR(2, 3, topology(), width=4, deep_supervision=True))
    x = maps(1, 2, 32, 32, 48)
    found, expected = network(x), composed(network, x)
    assert [tuple(f.shape[2:]) for f in found] == [(32, 32, 48), (16, 16, 24), (8, 8, 12), (4, 4, 6)]
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("stages", [3, 4, 5, 6, 7])
def test_attention_sits_at_an_eighth_and_below_or_at_the_deepest_level(stages):
    with torch.device("meta"):
        network = MobileUNETR(2, 3, topology(stages=stages), width=XXS)
    depths = [[len(m.layers) for m in stage.modules() if isinstance(m, PatchAttention)] for stage in parts(network)]
    first = min(3, stages - 1)
    expected = [[]] * first + [[2], [4], [3], [3]][: stages - first]
    assert depths == expected + expected[:-1]


def parts(network):
    """Levels of the encoder, then of the decoder, both from high to low resolution."""
    return [*network.encoder.stages, *reversed(network.decoder.stages)]


def test_flat_kernels_on_one_slice_are_the_2d_network(oracle_record):
    flat = randomise(MobileUNETR(2, 3, topology(2, 4), width=4))
    ours = copy_weights(MobileUNETR(2, 3, topology(3, 4, (1, 3, 3), (1, 2, 2)), width=4), flat)
    x = maps(1, 2, 1, 24, 40)
    oracle_record("MobileUNETR", "own 2D form", "network on one slice", ours(x), slicewise(flat, x))


@pytest.mark.parametrize("axes", [(2, 0, 1), (1, 0, 2)], ids=str)
def test_permuted_axes_permute_the_output(oracle_record, axes):
    kernel, stride = (1, 3, 3), (1, 2, 2)
    network = randomise(MobileUNETR(2, 3, topology(3, 4, kernel, stride), width=4))
    turned = [tuple(of[a] for a in axes) for of in (kernel, stride)]
    other = copy_permuted(MobileUNETR(2, 3, topology(3, 4, *turned), width=4), network, axes)
    x = maps(1, 2, 5, 24, 16)
    found, expected = other(permuted(x, axes)), permuted(network(x), axes)
    oracle_record("MobileUNETR", "permuted axes", f"3D network, axes {axes}", found, expected)


def test_the_whole_brain_in_64_voxels_with_coordinates():
    """The ROI detector's input: four images and three coordinates; its deepest map has four voxels an axis."""
    instance = {"norm_op": nn.InstanceNorm3d, "norm_op_kwargs": {"affine": True}}
    network = MobileUNETR(7, 1, topology(**instance), width=4)
    logits = network(maps(1, 7, 64, 64, 64))
    assert logits.shape == (1, 1, 64, 64, 64)
    logits.square().mean().backward()
    assert [n for n, p in network.encoder.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
