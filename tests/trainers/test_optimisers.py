"""Which parameters are decayed, over the whole registry, and what the groups do to a step and to a resumed training."""

from collections import defaultdict
from copy import deepcopy

import pytest
import torch
from torch import nn

from nnunet_ext.networks.registry import find, specs
from nnunet_ext.trainers.optimisers import OPTIMISERS, optimiser_for, parameter_groups
from nnunet_ext.trainers.recipe import Recipe
from tests.networks import plans

ADAMW = Recipe(optimiser="AdamW", initial_lr=0.1, weight_decay=0.5)
# what is not decayed, as (name of the module, name of the parameter); a new block's further parameters are entered here
SPARED = {"bias", "scale", "bias_table", "position", "own"}
NORMS = ("InstanceNorm2d", "InstanceNorm3d", "ChannelNorm", "LayerNorm", "GroupNorm")


def on_meta(spec):
    dims = max(spec.dimensions)
    with torch.device("meta"):
        return plans.build(spec, plans.isotropic(dims), size=spec.sizes[0], deep_supervision=True)


def kinds(network, parameters):
    """(module's class, parameter's name) of each of these parameters, with how many there are."""
    wanted, found = {id(p) for p in parameters}, defaultdict(int)
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) in wanted:
                found[type(module).__name__, name] += 1
    return dict(found)


@pytest.mark.parametrize("optimiser", OPTIMISERS)
@pytest.mark.parametrize("spec", specs(), ids=lambda spec: spec.name)
def test_every_parameter_is_in_exactly_one_group(spec, optimiser):
    network = on_meta(spec)
    grouped = [id(p) for group in parameter_groups(Recipe(optimiser=optimiser), network) for p in group["params"]]
    assert sorted(grouped) == sorted(map(id, network.parameters()))


@pytest.mark.parametrize("spec", specs(), ids=lambda spec: spec.name)
def test_kernels_and_matrices_are_decayed_and_nothing_else(spec):
    network = on_meta(spec)
    decayed, spared = parameter_groups(ADAMW, network)
    for (module, name), _ in kinds(network, decayed["params"]).items():
        assert name == "weight"
        assert module.startswith(("Conv", "Linear")), module
    for (module, name), _ in kinds(network, spared["params"]).items():
        assert name in SPARED or (name == "weight" and module in NORMS), (module, name)
    assert "weight_decay" not in decayed, "the recipe's"
    assert spared["weight_decay"] == 0


def test_position_tables_and_layer_scales_are_among_what_is_not_decayed():
    found = set()
    for name in ("UNETR", "SwinUNETR", "DualBranchConvNeXt", "DualBranchRepLK"):
        network = on_meta(find(name)[0])
        found |= kinds(network, parameter_groups(ADAMW, network)[1]["params"]).keys()
    assert {("VisionTransformer", "position"), ("ShiftedWindowAttention", "bias_table")} <= found
    assert {("LayerNorm", "weight"), ("InstanceNorm3d", "weight"), ("Conv3d", "bias")} <= found


@pytest.fixture
def small():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv3d(2, 3, 1), nn.InstanceNorm3d(3, affine=True), nn.Linear(4, 4))
    for parameter in network.parameters():
        nn.init.constant_(parameter, 2.0)
    return network


def test_a_step_without_gradients_shrinks_weights_alone(small):
    optimiser, _ = optimiser_for(ADAMW, small)
    for parameter in small.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    conv, norm, linear = small
    for weight in (conv.weight, linear.weight):
        assert torch.allclose(weight, torch.tensor(2.0 * (1 - 0.1 * 0.5)))
    for kept in (conv.bias, norm.weight, norm.bias, linear.bias):
        assert (kept == 2).all()


def test_the_schedule_reaches_both_groups(small):
    optimiser, schedule = optimiser_for(Recipe(optimiser="AdamW", initial_lr=1.0, epochs=10, warmup_epochs=3), small)
    schedule.step(1)
    assert [group["lr"] for group in optimiser.param_groups] == [0.5, 0.5]
    assert [group["weight_decay"] for group in optimiser.param_groups] == [3e-5, 0]


def test_an_optimisers_saved_state_goes_on_where_it_was(small):
    def steps(optimiser, count):
        for k in range(count):
            torch.manual_seed(k)
            for parameter in small.parameters():
                parameter.grad = torch.randn_like(parameter)
            optimiser.step()
        return [p.detach().clone() for p in small.parameters()]

    first, _ = optimiser_for(ADAMW, small)
    steps(first, 3)
    weights, state = {k: v.clone() for k, v in small.state_dict().items()}, deepcopy(first.state_dict())
    expected = steps(first, 2)
    small.load_state_dict(weights)
    second, _ = optimiser_for(ADAMW, small)
    second.load_state_dict(state)
    assert all(torch.equal(a, b) for a, b in zip(expected, steps(second, 2), strict=True))
