"""The plain networks as wholes, every head of deep supervision too, against nnU-Net's and MONAI's."""

import re

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from dynamic_network_architectures.building_blocks.plain_conv_encoder import PlainConvEncoder
from dynamic_network_architectures.building_blocks.unet_decoder import UNetDecoder
from monai.networks.nets import DynUNet
from torch import nn

from nnunet_ext.networks import registry
from tests.networks import plans
from tests.networks.oracles import randomise

CHANNELS, CLASSES, STAGES = 4, 3, 4
STRIDED, POOLED = (registry.find(name)[0] for name in ("UNet3DStride", "UNet3D"))
PLANS = {"isotropic": lambda dims: (plans.isotropic(dims, STAGES), (16,) * dims), "thick slices": plans.thick_slices}
CASES = [(spec, dims, plan) for spec in (STRIDED, POOLED) for dims in spec.dimensions for plan in PLANS]


def operators(plan):
    """What dynamic-network-architectures is built from, of torch's own operators."""
    dims, stages = len(plan["strides"][0]), len(plan["strides"])
    return {
        "input_channels": CHANNELS,
        "n_stages": stages,
        "features_per_stage": [min(16 * 2**i, 160) for i in range(stages)],  # size XS
        "conv_op": {2: nn.Conv2d, 3: nn.Conv3d}[dims],
        "kernel_sizes": plan["kernel_sizes"],
        "strides": plan["strides"],
        "n_conv_per_stage": 2,
        "conv_bias": True,
        "norm_op": {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}[dims],
        "norm_op_kwargs": plan["norm_op_kwargs"],
        "nonlin": nn.LeakyReLU,
        "nonlin_kwargs": plan["nonlin_kwargs"],
    }


class PooledUNet(nn.Module):
    """The encoder of dynamic-network-architectures with max-pooling and its decoder."""

    def __init__(self, **options):
        super().__init__()
        self.encoder = PlainConvEncoder(**options, return_skips=True, pool="max")
        self.decoder = UNetDecoder(self.encoder, CLASSES, 2, deep_supervision=True)

    def forward(self, x):
        return self.decoder(self.encoder(x))


def nnunets(spec, plan):
    options = operators(plan)
    if spec is POOLED:
        return PooledUNet(**options)
    return PlainConvUNet(**options, num_classes=CLASSES, n_conv_per_stage_decoder=2, deep_supervision=True)


def with_weights_of(network, theirs, rename):
    """``network`` with the oracle's weights, under ``rename(name here)``; every one of the oracle's is used."""
    state = theirs.state_dict(keep_vars=True)
    given = {key: state[rename(key)] for key in network.state_dict()}
    assert {id(value) for value in given.values()} == {id(value) for value in state.values()}
    network.load_state_dict(given)
    return network.eval()


def nnunets_name(key, pooled):
    """Behind a pooling operator the convolutions are the second of a stage's modules."""

    def stage(found):
        index, conv = map(int, found.groups())
        return f"encoder.stages.{index}.{int(pooled and index > 0)}.convs.{conv}."

    return re.sub(r"encoder\.trunk\.(\d+)\.conv(\d+)\.", stage, key)


@torch.no_grad()
def compare(record, family, oracle, what, found, expected):
    assert len(found) == len(expected) > 1
    for level, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        largest = theirs.abs().max()
        assert theirs.std() > 0.1 * largest
        record(family, oracle, f"{what}, head {level}", ours / largest, theirs / largest)


@pytest.mark.parametrize(("spec", "dims", "plan"), CASES, ids=lambda v: getattr(v, "trainer", str(v)))
@torch.no_grad()
def test_with_nnunets_weights_the_logits_are_nnunets(oracle_record, spec, dims, plan):
    planned, patch = PLANS[plan](dims)
    theirs = randomise(nnunets(spec, planned))
    ours = plans.build(spec, planned, deep_supervision=True)
    with_weights_of(ours, theirs, lambda key: nnunets_name(key, spec is POOLED))
    x = plans.image(patch, CHANNELS, batch=2)
    oracle = "nnU-Net's PlainConvUNet" if spec is STRIDED else "dynamic-network-architectures, max-pooling"
    compare(oracle_record, spec.trainer, oracle, f"{dims}D, {plan}", ours(x), theirs(x))


# MONAI's convolutions have no bias but in the heads
WITHOUT_BIAS = {"conv_bias": False}
PLACES = ("input_block", *(f"downsamples.{i}" for i in range(STAGES - 2)), "bottleneck")


def monais_name(key):
    """Upsampling blocks and heads are numbered upwards there; the head of full resolution is the output block."""
    key = re.sub(
        r"encoder\.trunk\.(\d+)\.conv(\d)\.conv", lambda m: f"{PLACES[int(m[1])]}.conv{int(m[2]) + 1}.conv", key
    )
    key = re.sub(r"encoder\.trunk\.(\d+)\.conv(\d)\.norm", lambda m: f"{PLACES[int(m[1])]}.norm{int(m[2]) + 1}", key)
    key = re.sub(r"decoder\.transpconvs\.(\d)", r"upsamples.\1.transp_conv.conv", key)
    block = r"decoder\.stages\.(\d)\.convs\.(\d)\."
    for part, name in (
        ("conv", "conv{}.conv"),
        ("norm", "norm{}"),
        ("all_modules.0", "conv{}.conv"),
        ("all_modules.1", "norm{}"),
    ):
        key = re.sub(
            block + re.escape(part) + r"\.",
            lambda m, name=name: f"upsamples.{m[1]}.conv_block.{name.format(int(m[2]) + 1)}.",
            key,
        )
    return re.sub(r"decoder\.seg_layers\.(\d)", lambda m: head(int(m[1])), key)


def head(index):
    """Ours are in the order of computation, theirs from high to low resolution."""
    level = STAGES - 2 - index
    return f"deep_supervision_heads.{level - 1}.conv.conv" if level else "output_block.conv.conv"


@pytest.mark.parametrize("dims", STRIDED.dimensions)
@torch.no_grad()
def test_with_monais_weights_the_logits_are_monais(oracle_record, dims):
    """Of DynUNet, whose decoder is not the one that ours is made of."""
    planned = {**plans.isotropic(dims, STAGES), **WITHOUT_BIAS}
    theirs = DynUNet(
        dims,
        CHANNELS,
        CLASSES,
        planned["kernel_sizes"],
        planned["strides"],
        planned["strides"][1:],
        filters=operators(planned)["features_per_stage"],
        deep_supervision=True,
        deep_supr_num=STAGES - 2,
    )
    randomise(theirs)
    ours = with_weights_of(plans.build(STRIDED, planned, deep_supervision=True), theirs, monais_name)
    x = plans.image((16,) * dims, CHANNELS, batch=2)
    expected = [theirs(x), *(h.clone() for h in theirs.heads)]
    compare(oracle_record, STRIDED.trainer, "monai DynUNet", f"{dims}D", ours(x), expected)
