"""RepLK against timm's re-parameterised convolution in 2D, and against plain twins in 3D."""

import copy
import pickle

import pytest
import torch
from timm.models.fastvit import ReparamLargeKernelConv
from torch import nn
from torch.nn.functional import batch_norm, conv3d, gelu, leaky_relu

from nnunet_ext.networks.backbones.replk import ConvFFN, ReparamDepthwise, RepLKBlock, RepLKStage
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

NAMES = {"large.conv": "large_conv.conv", "large_norm": "large_conv.bn"}
NAMES |= {"small.conv": "small_conv.conv", "small_norm": "small_conv.bn"}
SIZE = (7, 6, 9)
LARGE, SMALL = (13,) * 3, (5,) * 3


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(9, 14), (16, 15)], ids=str)
def test_timm_before_and_after_its_own_merging(oracle_record, size, stride):
    theirs = randomise(ReparamLargeKernelConv(3, 3, 13, stride, 1, 5))
    ours = ReparamDepthwise(operators(), 3, (13, 13), (5, 5), stride=stride, branch_norm=nn.BatchNorm2d)
    copy_weights(ours, theirs, NAMES)
    x = maps(2, 3, *size)
    for training in (True, False):  # in training first: the running statistics of both move alike
        mode = "training" if training else "evaluation"
        found, expected = ours.train(training)(x), theirs.train(training)(x)
        oracle_record("RepLK", "timm ReparamLargeKernelConv", f"{size}, stride {stride}, {mode}", found, expected)
    theirs.reparameterize()
    oracle_record("RepLK", "timm reparameterize()", f"{size}, stride {stride}", ours(x), theirs(x))
    for found, expected in zip(ours.merged(), theirs.reparam_conv.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def bare(backend=None):
    return randomise(ReparamDepthwise(operators(3), 2, LARGE, SMALL, backend=backend))


def branches_apart(module, x):
    """The sum as it is written, by torch's direct convolution."""
    kernels = module.large.kernel, module.small.kernel
    return sum(conv3d(x, k, padding=[n // 2 for n in k.shape[2:]], groups=x.shape[1]) for k in kernels)


def assert_twins(module, twin, x):
    """Equal values and gradients; ``twin`` computes from the parameters of ``module``."""
    found, expected = module(x), twin(module, x)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    for a, b in zip(gradients(module, x, found).values(), gradients(module, x, expected).values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5 * b.abs().max().item())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("backend", ["direct", "fft"])
def test_merged_branches_are_their_sum(oracle_record, backend, training):
    module, x = bare(backend).train(training), maps(2, 2, *SIZE, grad=True)
    assert_twins(module, branches_apart, x)
    oracle_record("RepLK", "sum of the branches", f"13^3 and 5^3, {backend}", module(x), branches_apart(module, x))


def test_two_checkpoints_one_after_the_other_in_one_module():
    module, x = bare(), maps(1, 2, *SIZE)
    first, second = (randomise(bare(), seed).state_dict() for seed in (1, 2))
    outputs = []
    with torch.inference_mode():
        for state in (first, second, first):
            module.load_state_dict(state)
            outputs.append(module(x))
            torch.testing.assert_close(outputs[-1], branches_apart(module, x), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(outputs[0], outputs[1])
    assert torch.equal(outputs[0], outputs[2])
    assert list(module.state_dict()) == ["large.conv.weight", "small.conv.weight"]


def test_training_goes_on_after_a_validation():
    module, x = bare(), maps(1, 2, *SIZE)
    optimiser = torch.optim.SGD(module.parameters(), 0.1)
    outputs = []
    for _ in range(3):
        module.train()(x).square().mean().backward()
        optimiser.step()
        optimiser.zero_grad()
        with torch.no_grad():
            outputs.append(module.eval()(x))
            torch.testing.assert_close(outputs[-1], branches_apart(module, x), rtol=1e-5, atol=1e-5)
    assert outputs[0].square().mean() > outputs[1].square().mean() > outputs[2].square().mean()


def test_weights_may_change_in_place_between_inferences():
    module, x = bare(), maps(1, 2, *SIZE)
    with torch.no_grad():
        module(x)
        module.small.kernel.mul_(3)  # as an average of weights does
        torch.testing.assert_close(module(x), branches_apart(module, x), rtol=1e-5, atol=1e-5)


def test_copies_after_an_inference_follow_their_own_weights():
    module, x = bare(), maps(1, 2, *SIZE)
    with torch.no_grad():
        expected = module(x)
        for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
            assert torch.equal(twin(x), expected)
            randomise(twin, 3)
            torch.testing.assert_close(twin(x), branches_apart(twin, x), rtol=1e-5, atol=1e-5)
        assert torch.equal(module(x), expected)


def normalised(norm, x):
    return batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias)


def pointwise(module, x):
    return normalised(module.norm, conv3d(x, module.conv.weight))


def block_twin(block, x):
    y = branches_apart(block.depthwise, leaky_relu(pointwise(block.expand, x)))
    return x + pointwise(block.project, leaky_relu(normalised(block.norm, y)))


def ffn_twin(ffn, x):
    return x + pointwise(ffn.project, gelu(pointwise(ffn.expand, x)))


@pytest.mark.parametrize("kernel", [(3, 3, 3), (1, 3, 3)], ids=str)
def test_block_is_its_plain_twin(oracle_record, kernel):
    block, x = randomise(RepLKBlock(operators(3, nn.LeakyReLU), 3, kernel)), maps(2, 3, *SIZE, grad=True)
    assert_twins(block, block_twin, x)
    oracle_record("RepLK", "functional twin", f"block, kernels {kernel}", block(x), block_twin(block, x))
    assert block.depthwise.large.kernel.shape[2:] == tuple(13 if k > 1 else 1 for k in kernel)


def test_feed_forward_is_its_plain_twin(oracle_record):
    ffn, x = randomise(ConvFFN(operators(3), 3, 4)), maps(2, 3, *SIZE, grad=True)
    assert_twins(ffn, ffn_twin, x)
    oracle_record("RepLK", "functional twin", "feed-forward network", ffn(x), ffn_twin(ffn, x))


@pytest.mark.parametrize("stride", [1, 2])
def test_flat_kernels_are_the_2d_form_on_every_slice(oracle_record, stride):
    flat = randomise(RepLKStage(2, 4, stage_plan((3, 3), (stride, stride))))
    ours = copy_weights(RepLKStage(2, 4, stage_plan((1, 3, 3), (1, stride, stride))), flat)
    x = maps(1, 2, 3, 9, 11)
    oracle_record("RepLK", "own 2D form", f"3D stage by slices, stride {stride}", ours(x), slicewise(flat, x))


@pytest.mark.parametrize("axes", [(2, 0, 1), (1, 0, 2)], ids=str)
def test_permuted_axes_permute_the_output(oracle_record, axes):
    kernel, stride = (1, 3, 3), (1, 2, 1)
    module = randomise(RepLKStage(2, 4, stage_plan(kernel, stride)))
    turned = [[of[a] for a in axes] for of in (kernel, stride)]
    other = copy_permuted(RepLKStage(2, 4, stage_plan(*turned)), module, axes)
    x = maps(1, 2, 5, 8, 6)
    oracle_record(
        "RepLK", "permuted axes", f"3D stage, axes {axes}", other(permuted(x, axes)), permuted(module(x), axes)
    )


def test_ratio_is_the_width_of_the_feed_forward_inside():
    for ratio in (2, 4):
        stage = RepLKStage(2, 3, stage_plan((3, 3, 3), (2, 2, 2)), ffn_ratio=ratio)
        assert [m.expand.conv.out_channels for m in stage if isinstance(m, ConvFFN)] == 2 * [3 * ratio]
