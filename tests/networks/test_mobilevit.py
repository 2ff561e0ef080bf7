"""MobileViT against timm's block in 2D, and its patches against attention within interleaved maps."""

from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.layers import ConvNormAct
from timm.models.byobnet import LayerFn
from timm.models.mobilevit import MobileVitBlock
from torch import nn

from nnunet_ext.networks.backbones.mobilevit import MobileViTBlock, MobileViTStage, PatchAttention
from tests.networks.oracles import (
    copy_permuted,
    copy_weights,
    gradients,
    maps,
    operators,
    permuted,
    randomise,
    slicewise,
    stage_plan,
)

CHANNELS, DIM = 6, 8
NAMES = {"local.norm": "conv_kxk.bn", "local": "conv_kxk", "widen": "conv_1x1", "attention.norm": "norm"}
NAMES |= {"project.norm": "conv_proj.bn", "project": "conv_proj"}
NAMES |= {"fusion.norm": "conv_fusion.bn", "fusion": "conv_fusion"}
NAMES |= {f"attention.layers.{i}.attention": f"transformer.{i}.attn" for i in range(2)}
NAMES |= {f"attention.layers.{i}": f"transformer.{i}" for i in range(2)}


def timm_block(patch):
    layers = LayerFn(conv_norm_act=partial(ConvNormAct, act_layer=nn.SiLU), act=nn.SiLU)
    return randomise(MobileVitBlock(CHANNELS, transformer_dim=DIM, patch_size=patch, layers=layers))


def block(dims, kernel=3, **options):
    return MobileViTBlock(operators(dims, nn.SiLU), CHANNELS, (kernel,) * dims, dim=DIM, **options)


@pytest.mark.parametrize("patch", [1, 2, 4])
@pytest.mark.parametrize("size", [(8, 12), (12, 16)], ids=str)
def test_block_is_timms(oracle_record, size, patch):
    theirs = timm_block(patch)
    ours = copy_weights(block(2, patch=patch), theirs, NAMES)
    x = maps(2, CHANNELS, *size)
    oracle_record("MobileViT", "timm MobileVitBlock", f"{size}, patch {patch}", ours(x), theirs(x))


def test_odd_sizes_are_timms_where_nothing_is_resized(oracle_record):
    theirs = timm_block(1)
    ours = copy_weights(block(2, patch=1), theirs, NAMES)
    x = maps(2, CHANNELS, 9, 11)
    oracle_record("MobileViT", "timm MobileVitBlock", "(9, 11), patch 1", ours(x), theirs(x))


def interleaved(attention, x):
    """Each of the maps that start at one place of the first patch attends within itself; nothing is padded."""
    steps = [max(1, min(attention.patch, n // 2)) for n in x.shape[2:]]
    y = torch.zeros_like(x)
    for start in torch.cartesian_prod(*(torch.arange(s) for s in steps)).view(-1, len(steps)).tolist():
        places = (..., *(slice(a, None, s) for a, s in zip(start, steps, strict=True)))
        tokens = x[places].flatten(2).transpose(1, 2)
        for layer in attention.layers:
            tokens = layer(tokens)
        y[places] = attention.norm(tokens).transpose(1, 2).reshape(x[places].shape)
    return y


@given(size=st.lists(st.integers(1, 7), min_size=2, max_size=3), patch=st.integers(1, 3), batch=st.integers(1, 2))
def test_padding_and_mask_change_nothing(size, patch, batch):
    attention = randomise(PatchAttention(DIM, 1, patch))
    x = maps(batch, DIM, *size, grad=True)
    found, expected = attention(x), interleaved(attention, x)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    for a, b in zip(gradients(attention, x, found).values(), gradients(attention, x, expected).values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(2, 2, 2), (3, 1, 2), (4, 5, 2)], ids=str)
def test_attention_never_sees_a_single_token(size):
    """A voxel's output depends on another voxel; with one token per place it would not."""
    attention = randomise(PatchAttention(DIM, 1, 4))
    x = maps(1, DIM, *size)
    for axis, n in enumerate(size):
        moved = x.clone()
        moved.select(2 + axis, n - 1).neg_()
        unmoved = attention(x) - attention(moved)
        if n > 1:
            assert unmoved.narrow(2 + axis, 0, n - 1).abs().max() > 1e-3


@pytest.mark.parametrize("v3", [False, True])
def test_flat_maps_are_the_2d_form(oracle_record, v3):
    flat = randomise(MobileViTStage(3, 8, stage_plan((3, 3), (2, 2)), v3=v3))
    ours = copy_weights(MobileViTStage(3, 8, stage_plan((1, 3, 3), (1, 2, 2)), v3=v3), flat)
    x = maps(2, 3, 1, 9, 12)
    what = f"3D stage of one slice{', v3' if v3 else ''}"
    oracle_record("MobileViT", "own 2D form", what, ours(x), slicewise(flat, x))


@pytest.mark.parametrize("v3", [False, True])
@pytest.mark.parametrize("axes", [(2, 0, 1), (1, 0, 2)], ids=str)
def test_permuted_axes_permute_the_output(oracle_record, axes, v3):
    kernel, stride = (1, 3, 3), (1, 2, 1)
    module = randomise(MobileViTStage(3, 8, stage_plan(kernel, stride), v3=v3))
    turned = [[of[a] for a in axes] for of in (kernel, stride)]
    other = copy_permuted(MobileViTStage(3, 8, stage_plan(*turned), v3=v3), module, axes)
    x = maps(1, 3, 5, 9, 6)
    what = f"3D stage, axes {axes}{', v3' if v3 else ''}"
    oracle_record("MobileViT", "permuted axes", what, other(permuted(x, axes)), permuted(module(x), axes))


def v3_twin(module, x):
    """The parts of version 3 in the order of its figure: local, global, both, and the input again."""
    local = module.widen(module.local(x))
    mixed = module.project(interleaved(module.attention, local))
    return module.fusion(torch.cat((local, mixed), 1)) + x


def test_version_3_is_its_plain_twin(oracle_record):
    module, x = randomise(block(3, v3=True)), maps(2, CHANNELS, 4, 5, 6, grad=True)
    found, expected = module(x), v3_twin(module, x)
    oracle_record("MobileViT", "plain twin", "v3 block", found, expected)
    for a, b in zip(gradients(module, x, found).values(), gradients(module, x, expected).values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    assert module.local.conv.groups == CHANNELS
    assert module.fusion.conv.weight.shape == (CHANNELS, DIM + CHANNELS, 1, 1, 1)
