"""Stages of every encoder, what of them is trained when, and that what is frozen does not move in any way."""

from itertools import pairwise

import pytest
import timm
import torch
from torch import nn

from nnunet_ext.networks import registry
from nnunet_ext.networks.registry import PREFIX, case_specs, find
from nnunet_ext.outcomes.timm_backbone import TimmEncoder
from nnunet_ext.trainers.freezing import frozen_modules, hold_statistics, trained_stages
from nnunet_ext.trainers.grammar import parse
from nnunet_ext.trainers.optimisers import optimiser_for
from nnunet_ext.trainers.recipe import Recipe
from nnunet_ext.trainers.step import update
from tests.networks.plans import CHANNELS, PATCH, isotropic

ENCODERS = [spec for spec in case_specs() if "timm" not in spec.network]
LAST = Recipe(frozen_epochs=1, unfrozen_stages=1, optimiser="AdamW", initial_lr=1e-2)
# the modules of the last two stages of a plan of five, by their names
NAMED = {
    "CaseUNet3D": {"trunk.3", "trunk.4"},
    "CaseUNETR": {*(f"blocks.{i}" for i in range(6, 12)), "norm"},
    "CaseSwinUNETR": {"stages.1", "stages.2", "skips.4"},
    "CaseMobileUNETR3D": {"stages.3", "stages.4"},
    "CaseResNet18SE": {"layer3", "layer4", "excitation"},
}


def build(spec, patch=PATCH):
    further = 3 * bool(spec.recipe.get("coordinates"))
    dims = min(spec.dimensions)
    return registry.build(
        spec,
        CHANNELS + further,
        2,
        isotropic(dims),
        size=spec.sizes[0],
        image_channels=CHANNELS,
        patch_size=(patch,) * dims,
    ), torch.randn(2, CHANNELS + further, *(patch,) * dims)


def first_calls(network, x):
    """For each stage the places, in the order of computation, of its modules that have parameters."""
    order: dict[int, int] = {}

    def note(module, _inputs, _output):
        order.setdefault(id(module), len(order))

    hooks = [
        module.register_forward_hook(note)
        for module in network.encoder.modules()
        if any(True for _ in module.parameters())
    ]
    network(x)
    for hook in hooks:
        hook.remove()
    inner = [{id(m) for top in stage for m in top.modules()} for stage in network.encoder.stage_modules()]
    return [[order[m] for m in stage if m in order] for stage in inner]


@pytest.mark.parametrize("spec", ENCODERS, ids=lambda spec: spec.trainer)
def test_stages_follow_each_other_and_the_last_one_alone_is_trained(spec):
    network, x = build(spec)
    network.apply(network.initialize)
    stages = first_calls(network, x)
    assert len(stages) > 1
    assert all(max(before) < min(after) for before, after in pairwise(filter(None, stages)))
    optimiser_for(LAST, network)
    network(x).square().sum().backward()
    trained = {id(p) for m in network.encoder.stage_modules()[-1] for p in m.parameters()}
    assert trained
    for name, p in network.encoder.named_parameters():
        assert (p.grad is not None) == (id(p) in trained), name
    assert all(p.grad is not None for p in network.heads.parameters())


@pytest.mark.parametrize("trainer", NAMED)
def test_the_last_two_stages_by_name(trainer):
    spec = find(trainer)[0]
    with torch.device("meta"):
        network = registry.build(
            spec, CHANNELS, 2, isotropic(3), size=spec.sizes[0], image_channels=CHANNELS, patch_size=(PATCH,) * 3
        )
    optimiser_for(Recipe(frozen_epochs=1, unfrozen_stages=2), network)
    for name, p in network.encoder.named_parameters():
        assert p.requires_grad == name.startswith(tuple(f"{part}." for part in NAMED[trainer])), name


@pytest.mark.parametrize(
    ("model", "last"),
    [
        ("resnet50", {"layer4"}),
        ("efficientnet_b0", {"blocks.5", "blocks.6", "conv_head", "bn2"}),
        ("convnext_tiny", {"stages.3", "head"}),
        ("rexnetr_200", {"features.11", "features.12", "features.13", "features.14", "features.15", "features.16"}),
    ],
)
def test_stages_of_timm_end_where_timm_says(model, last):
    encoder = TimmEncoder.__new__(TimmEncoder)
    nn.Module.__init__(encoder)
    with torch.device("meta"):
        encoder.model = timm.create_model(model, num_classes=0)
    stages = encoder.stage_modules()
    assert len(stages) == len(encoder.model.feature_info)
    names = {id(p): name for name, p in encoder.model.named_parameters()}
    found = [id(p) for stage in stages for module in stage for p in module.parameters()]
    assert sorted(found) == sorted(names), "each parameter is of one stage"
    of_last = [names[id(p)] for module in stages[-1] for p in module.parameters()]
    assert all(name.startswith(tuple(f"{part}." for part in last)) for name in of_last)
    assert {part for part in last if any(name.startswith(f"{part}.") for name in of_last)} == last


@pytest.mark.parametrize("name", ["CaseEfficientNetB0", "CaseConvNeXtTiny"])
def test_the_last_stage_of_timm_is_the_same_where_several_are_read(name):
    encoder, _ = build(find(name)[0], patch=64)
    encoder = encoder.encoder
    before = {id(p) for module in encoder.stage_modules()[-1] for p in module.parameters()}
    encoder.give_stages()
    after = {id(p) for module in encoder.stage_modules()[-1] for p in module.parameters()}
    assert after
    assert after == before & {id(p) for p in encoder.parameters()}


def test_more_stages_than_there_are_is_one_sentence():
    encoder = build(find("CaseResNet18")[0])[0].encoder
    with pytest.raises(
        ValueError, match=r"ResNet18 has 4 stages, of which Unfreeze4 would leave none .* fewer than 4\."
    ):
        trained_stages(encoder, 4)
    encoder.stage_modules = lambda: [[encoder]]
    with pytest.raises(ValueError, match=r"has 1 stage, of which Unfreeze1 .* leave the word out\."):
        trained_stages(encoder, 1)


def statistics(network):
    return {name: value.clone() for name, value in network.named_buffers() if "running" in name}


def test_running_statistics_of_frozen_stages_do_not_move_and_those_of_others_do():
    network, x = build(find("CaseResNet18")[0])
    recipe = Recipe(frozen_epochs=1, unfrozen_stages=2)
    for epoch, moving in ((0, ()), (1, ("encoder.layer3.", "encoder.layer4."))):
        network.train()
        hold_statistics(network, recipe, epoch)
        before = statistics(network)
        network(x)
        for name, value in statistics(network).items():
            assert torch.equal(value, before[name]) != name.startswith(moving), (epoch, name)
    network.train()
    hold_statistics(network, Recipe(encoder_rate=0.1), 0)
    assert all(module.training for module in network.modules())
    assert not list(frozen_modules(network, Recipe(frozen_epochs=1), 1))


def test_a_whole_training_leaves_the_frozen_part_bit_for_bit():
    """Parameters, statistics and momentum; then the last stage moves, at a part of the heads' rate."""
    torch.manual_seed(0)
    network, x = build(find("CaseResNet18")[0])
    recipe = Recipe(frozen_epochs=2, unfrozen_stages=1, encoder_rate=0.2, epochs=4, initial_lr=1e-3)
    optimiser, schedule = optimiser_for(recipe, network)
    for epoch in range(4):
        network.train()
        hold_statistics(network, recipe, epoch)
        schedule.step(epoch)
        heads, encoder = (group["lr"] for group in optimiser.param_groups)
        assert encoder == pytest.approx(0 if epoch < 2 else 0.2 * heads)
        before = {name: value.clone() for name, value in network.state_dict().items()}
        optimiser.zero_grad()
        network(x).square().sum().backward()
        update(network, optimiser, 12.0)
        moved = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
        assert {name.split(".")[0] for name in moved} == ({"heads"} if epoch < 2 else {"heads", "encoder"})
        assert all(name.startswith(("heads.", "encoder.layer4.")) for name in moved)
        held = [p for p in network.encoder.parameters() if p in optimiser.state]
        assert len(held) == (0 if epoch < 2 else sum(1 for _ in network.encoder.layer4.parameters()))


def test_frozen_gradients_do_not_count_in_the_norm_that_is_clipped():
    network = nn.ModuleDict({"encoder": nn.Linear(1, 1, bias=False), "heads": nn.Linear(1, 1, bias=False)})
    groups = [{"params": network["encoder"].parameters(), "lr": 0.0}, {"params": network["heads"].parameters()}]
    optimiser = torch.optim.SGD(groups, lr=1.0)
    before = network["heads"].weight.item()
    network["encoder"].weight.grad, network["heads"].weight.grad = torch.tensor([[400.0]]), torch.tensor([[3.0]])
    update(network, optimiser, 4.0)
    assert before - network["heads"].weight.item() == pytest.approx(3.0)


# --- words


@pytest.mark.parametrize(
    ("words", "shares"),
    [
        ("", [1, 1, 1]),
        ("_Freeze1", [0, 0.1, 0.1]),
        ("_EncoderRate2en1", [0.2, 0.2, 0.2]),
        ("_Freeze2_EncoderRate5en1", [0, 0, 0.5]),
        ("_Freeze1_Unfreeze2_EncoderRate1", [0, 1, 1]),
    ],
)
def test_the_encoders_part_of_the_rate(words, shares):
    recipe = parse(f"{PREFIX}CaseUNet3D{words}").recipe
    assert [recipe.encoder_share(epoch) for epoch in range(3)] == pytest.approx(shares)
    assert recipe.encoder_apart == bool(words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("Unfreeze2", "Unfreeze2 says what is trained after the epochs of Freeze<N>; add Freeze10"),
        ("EncoderRate1", "anyway; the legal name is nnUNetTrainer_CaseUNet3D"),
        ("Freeze5_EncoderRate1en1", "anyway; the legal name is nnUNetTrainer_CaseUNet3D_Freeze5"),
        ("Unfreeze2_Freeze5", "the legal name is nnUNetTrainer_CaseUNet3D_Freeze5_Unfreeze2"),
    ],
)
def test_names_that_are_refused(words, message):
    with pytest.raises(ValueError, match=message):
        parse(f"{PREFIX}CaseUNet3D_{words}")
