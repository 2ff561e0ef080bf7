"""Rates, kernels and depths as they are declared, on the networks that are built for nnU-Net's plan of BraTS.

The tables are written by hand: stages 1 to 4 of a branch, then 5 and 6 of the trunk, but where a network is fused at
stage 3. Maps have 128, 64, 32, 16, 8 and 4 voxels an axis.
"""

from dataclasses import dataclass

import pytest
import torch
from dynamic_network_architectures.building_blocks.simple_conv_blocks import StackedConvBlocks
from torch.nn.modules.conv import _ConvNd

from nnunet_ext.networks import registry
from nnunet_ext.networks.backbones import convnext, ghost, mobilenetv2, mobilevit, replk, shufflenet, shufflenetv2
from nnunet_ext.networks.encoder import BranchEncoder
from nnunet_ext.networks.stock_plan import INPUT_CHANNELS, OUTPUT_CHANNELS, PATCHES, stock_plan
from nnunet_ext.networks.topology import Topology
from nnunet_ext.networks.transformer import TransformerBlock
from tests.networks import plans
from tests.networks.oracles import stage_plan

DIMS = 3
PLAIN = (1, 1, 1, 1, 1, 1)
# trainer -> per branch (the second is FLAIR) and stage the largest rate
RATES = {
    "DualBranchDilatedFLAIR": (PLAIN, (2, 2, 2, 2, 1, 1)),
    "DualBranchDilated": ((1, 5, 5, 5, 4, 2),) * 2,
    "DualBranchMobileNetV2Dilated": ((1, 2, 2, 2, 2, 2),) * 2,
    "DualBranchMobileNetV2DilatedFixed": ((1, 2, 2, 2, 2, 2),) * 2,
    "DualBranchShuffleV2Dilated": ((1, 2, 2, 2, 2, 2),) * 2,
}
THREE = (3, 3, 3, 3, 3, 3)
# the same with the largest kernels
KERNELS = {
    "DualBranchRepLK": (THREE, (3, 13, 13, 13, 3, 3)),
    "DualBranchRepLKFFN2": (THREE, (3, 13, 13, 13, 3, 3)),
    "DualBranchRepLKMViT45": (THREE, (3, 13, 13, 3, 3, 3)),
    "DualBranchRepLKMViT5": (THREE, (3, 13, 13, 13, 3, 3)),
    "DualBranchConvNeXt": ((3, 7, 7, 7, 7, 7),) * 2,
    "DualBranchShuffleV2LK": ((3, 7, 7, 7, 7, 7),) * 2,
}


@dataclass(frozen=True)
class Depth:
    """Instances of a block in the last stage of the FLAIR branch and in the last of the trunk."""

    block: type
    branch: int
    trunk: int


DEPTHS = {
    "DualBranchRepLK": (Depth(replk.RepLKBlock, 2, 0), Depth(replk.ConvFFN, 2, 0)),
    "DualBranchRepLKFFN2": (Depth(replk.RepLKBlock, 2, 0), Depth(replk.ConvFFN, 2, 0)),
    "DualBranchRepLKMViT45": (Depth(mobilevit.MobileViTBlock, 1, 1), Depth(TransformerBlock, 2, 2)),
    "DualBranchRepLKMViT5": (Depth(replk.RepLKBlock, 2, 0), Depth(TransformerBlock, 0, 2)),
    "DualBranchMViT": (Depth(mobilevit.MobileViTBlock, 1, 1), Depth(TransformerBlock, 4, 3)),
    "DualBranchMobileNetV2": (Depth(mobilenetv2.InvertedResidual, 2, 2),),
    "DualBranchMobileNetV2Dilated": (Depth(mobilenetv2.ShuffledResidual, 2, 2),),
    "DualBranchMobileNetV2DilatedFixed": (Depth(mobilenetv2.ShuffledResidual, 2, 2),),
    "DualBranchGhost": (Depth(ghost.GhostBottleneck, 2, 2),),
    "DualBranchConvNeXt": (Depth(convnext.ConvNeXtBlock, 2, 2),),
    "DualBranchShuffleV1": (Depth(shufflenet.ShuffleUnit, 2, 2),),
    "DualBranchShuffleV2": (Depth(shufflenetv2.ShuffleUnit, 2, 2),),
    "DualBranchShuffleV2Dilated": (Depth(shufflenetv2.ShuffleUnit, 2, 2),),
    "DualBranchShuffleV2LK": (Depth(shufflenetv2.ShuffleUnit, 2, 2),),
}
BRANCHED = [spec for spec in registry.specs() if spec.branches]


@pytest.fixture(scope="module", params=BRANCHED, ids=lambda spec: spec.trainer)
def built(request):
    """The declaration and its smallest network for the whole patch, without storage."""
    patch = PATCHES[DIMS]
    with torch.device("meta"):
        return request.param, registry.build(
            request.param, INPUT_CHANNELS, OUTPUT_CHANNELS, stock_plan(DIMS), size="XS", patch_size=patch
        )


def stages(network):
    """Per branch its stages with those of the trunk behind them."""
    return [[*branch, *network.encoder.trunk] for branch in network.encoder.branches]


def largest(stage, attribute):
    """The largest rate or kernel of the convolutions of a stage, which is the same along all axes."""
    found = [getattr(m, attribute) for m in stage.modules() if isinstance(m, _ConvNd)]
    assert all(len(set(values)) == 1 for values in found)
    return max(values[0] for values in found)


def expected(table, spec, default):
    return [list(row) for row in table.get(spec.trainer, (default,) * len(spec.branches))]


def test_rates(built):
    spec, network = built
    assert [[largest(s, "dilation") for s in branch] for branch in stages(network)] == expected(RATES, spec, PLAIN)


def test_kernels(built):
    spec, network = built
    found = [[largest(s, "kernel_size") for s in branch] for branch in stages(network)]
    assert found == expected(KERNELS, spec, THREE)


def test_depths(built):
    spec, network = built
    for depth in DEPTHS.get(spec.trainer, ()):
        counts = [
            sum(isinstance(m, depth.block) for m in stage.modules())
            for stage in (network.encoder.branches[-1][-1], network.encoder.trunk[-1])
        ]
        assert counts == [depth.branch, depth.trunk], depth.block


def test_every_light_network_has_its_depth_in_the_table():
    light = {s.trainer for s in BRANCHED if any(hasattr(m, "paper_blocks") for m in _modules(s))}
    assert light == set(DEPTHS)


def _modules(spec):
    with torch.device("meta"):
        return list(plans.build(spec, plans.isotropic(2)).modules())


def test_one_convolution_a_decoder_stage_after_branches(built):
    blocks = [m for m in built[1].decoder.modules() if isinstance(m, StackedConvBlocks)]
    assert {len(block.convs) for block in blocks} == {1}
    assert len(blocks) == (4 if built[0].trainer == "DualBranchMobileNetV2DilatedFixed" else 5)


@pytest.mark.parametrize("name", ["UNet3D", "UNet3DStride", "ROIUNet3D_Tiny"])
def test_two_convolutions_a_decoder_stage_after_a_single_encoder(name):
    spec, _ = registry.find(name)
    with torch.device("meta"):
        network = plans.build(spec, plans.isotropic(DIMS))
    assert {len(m.convs) for m in network.decoder.modules() if isinstance(m, StackedConvBlocks)} == {2}


def test_the_feed_forward_of_replk_is_as_wide_as_declared(built):
    spec, network = built
    ratio = {"DualBranchRepLKFFN2": 2}.get(spec.trainer, 4)
    found = {m.expand.conv.out_channels / m.expand.conv.in_channels for m in network.modules() if _is_ffn(m)}
    assert found in ({ratio}, set())
    assert bool(found) == spec.trainer.startswith("DualBranchRepLK")


def _is_ffn(module):
    return isinstance(module, replk.ConvFFN)


@pytest.mark.parametrize("patch", [(128, 128, 128), (32, 64, 48), None], ids=str)
def test_a_rate_is_at_most_half_the_map(patch):
    topology = Topology.from_plan(plans.isotropic(3), patch)
    # by hand: the lowest of five stages is a sixteenth
    lowest = {(128, 128, 128): (4, 4, 4), (32, 64, 48): (1, 2, 1), None: (2, 2, 2)}[patch]
    assert topology.dilation(4, 5) == lowest
    assert topology.dilation(0, 5) == (5, 5, 5)
    assert topology.dilation(4, 1) == (1, 1, 1)


@pytest.mark.parametrize("name", sorted(RATES))
@pytest.mark.parametrize("patch", [(32, 32, 32), (64, 32, 96)], ids=str)
def test_every_tap_of_a_dilated_kernel_sees_the_map(name, patch):
    """A map of ones: the gradient of a tap counts the voxels that it sees, at least half of them along an axis."""
    spec, _ = registry.find(name)
    network = plans.build(spec, plans.isotropic(DIMS), patch)
    sizes = {}
    for module in network.modules():
        if isinstance(module, _ConvNd) and max(module.dilation) > 1:
            module.register_forward_hook(lambda m, given, _: sizes.update({m: given[0].shape[2:]}))
    with torch.no_grad():
        network(plans.image(patch))
    assert sizes
    for conv, size in sizes.items():
        if max(conv.stride) > 1:
            continue
        y = conv(torch.ones(1, conv.in_channels, *size))
        (gradient,) = torch.autograd.grad(y.sum(), conv.weight)
        assert gradient.min() >= torch.Size(size).numel() / 2**DIMS


# before the fusion of DualBranchDilatedFLAIR both patches leave maps that its rates fit
@pytest.mark.parametrize("name", sorted(set(RATES) - {"DualBranchDilatedFLAIR"}))
def test_weights_for_other_rates_are_refused(name):
    spec, _ = registry.find(name)
    plan = plans.isotropic(2)
    small, large = (plans.build(spec, plan, patch) for patch in ((32, 32), (128, 128)))
    small.load_state_dict(plans.build(spec, plan, (32, 32)).state_dict())
    with pytest.raises(ValueError, match=r"dilated otherwise .* the plans that it was trained with"):
        small.load_state_dict(large.state_dict())


def test_a_stage_without_a_patch_takes_the_rate_of_four_voxels():
    assert stage_plan((3, 3, 3), (2, 2, 2)).dilation(5) == (2, 2, 2)


def test_what_the_first_skip_leaves_out_has_no_weights():
    topology = Topology.from_plan(plans.isotropic(3))
    spec, _ = registry.find("DualBranchMobileNetV2DilatedFixed")
    encoder = BranchEncoder(4, topology, 8, first_skip=2, branches=spec.branches, trunk=spec.options["trunk"])
    assert [bool(list(f.parameters())) for f in encoder.fusions] == [False, True, True, True]
    assert [m.shape[1] for m in encoder(torch.randn(1, 4, 32, 32, 32))] == [16, 32, 64, 80]
