"""Networks for case-level targets: every encoder of the zoo, ResNet18 against its published forms, timm's rows."""

import re

import pytest
import timm
import torch
import torchvision
from monai.networks.nets import resnet18 as monai_resnet18
from torch import nn

from nnunet_ext.networks import registry
from nnunet_ext.networks.case import CaseNetwork
from nnunet_ext.networks.tasks import CASE_LEVEL, TASKS
from tests.networks.plans import CHANNELS, PATCH, STAGES, isotropic

ENCODERS = [(spec, dims) for spec in registry.case_specs() for dims in spec.dimensions if "timm" not in spec.network]
IDS = [f"{spec.trainer}-{dims}d" for spec, dims in ENCODERS]
OUTPUTS = 3


def build(spec, dims, channels=CHANNELS, outputs=OUTPUTS, patch=PATCH, stages=STAGES):
    further = 3 * bool(spec.recipe.get("coordinates"))
    return registry.build(
        spec,
        channels + further,
        outputs,
        isotropic(dims, stages),
        size=spec.sizes[0],
        image_channels=channels,
        patch_size=(patch,) * dims,
    )


def image(network_spec, dims, channels=CHANNELS, patch=PATCH):
    torch.manual_seed(1)
    return torch.randn(2, channels + 3 * bool(network_spec.recipe.get("coordinates")), *(patch,) * dims)


def test_every_network_of_the_zoo_is_there_for_case_level_targets():
    rows = {spec.trainer: spec for spec in registry.case_specs()}
    for spec in registry.specs():
        row = rows[f"Case{spec.trainer}"]
        assert (row.task, row.sizes, row.branches) == (CASE_LEVEL, spec.sizes, spec.branches)
        assert not row.detector
        assert registry.find(f"nnUNetTrainer_{row.trainer}_{row.sizes[0]}") == (row, row.sizes[0])
    assert len({task.name for task in TASKS}) == len(TASKS)


@pytest.mark.parametrize(("spec", "dims"), ENCODERS, ids=IDS)
def test_every_encoder_gives_outputs_and_no_parameter_is_without_gradient(spec, dims):
    network = build(spec, dims)
    network.apply(network.initialize)
    outputs = network(image(spec, dims))
    assert outputs.shape == (2, OUTPUTS)
    outputs.square().sum().backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert without == [], "DDP would wait for them"


SEGMENTING = [
    registry.find(name)[0]
    for name in ("UNet3D", "UNETR", "SwinUNETR", "MobileUNETR3D", "DualBranchGhost", "QuadBranchAttention")
] + [registry.find("DualBranchMobileNetV2DilatedFixed")[0]]


@pytest.mark.parametrize("spec", SEGMENTING, ids=lambda spec: spec.name)
def test_the_pooled_maps_are_those_of_the_segmentation_networks_encoder_whose_weights_fit_by_name(spec):
    pooled = registry.find(f"Case{spec.trainer}")[0]
    whole = registry.build(
        spec, CHANNELS, 2, isotropic(3), size=spec.sizes[0], image_channels=CHANNELS, patch_size=(PATCH,) * 3
    )
    network = build(pooled, 3)
    theirs = whole.state_dict()
    own = {name: value for name, value in network.state_dict().items() if name.startswith("encoder.")}
    assert all(theirs[name].shape == value.shape for name, value in own.items()), "nnU-Net's -pretrained_weights"
    network.load_state_dict({**network.state_dict(), **{name: theirs[name] for name in own}})
    x = image(pooled, 3)
    with torch.no_grad():
        kept = 1 if spec.trainer in ("UNETR", "SwinUNETR") else 3  # their inner maps go through blocks of the decoder
        flat = [each.flatten(2) for each in whole.eval().encoder(x)[-kept:]]
        expected = torch.cat([torch.cat((each.mean(2), each.amax(2)), 1) for each in flat], 1)
        found = network.eval().features(x)[:, -expected.shape[1] :]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


# --- pooling


class Maps(nn.Module):
    """The image, then two maps of half of it."""

    output_channels = (1, 2)

    def forward(self, x):
        half = x[..., 0] / 2 + x[..., 1] / 2
        return [x, torch.cat((half - 3, half), 1)]


# --- ResNet18


def randomised(network):
    generator = torch.Generator().manual_seed(5)
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            drawn = torch.rand(value.shape, generator=generator) * 0.2 - 0.1
            value.copy_(drawn + 1 if name.endswith(("running_var", "bn1.weight", "bn2.weight")) else drawn)
    return network.eval()


def ours_from(theirs, network):
    renamed = {("heads." + n[3:] if n.startswith("fc.") else "encoder." + n): v for n, v in theirs.state_dict().items()}
    network.load_state_dict(renamed)
    return network.eval()


def test_resnet18_is_torchvisions_in_2d():
    theirs = randomised(torchvision.models.resnet18(num_classes=2))
    network = build(registry.find("CaseResNet18")[0], 2, channels=3, outputs=2)
    assert sum(p.numel() for p in network.parameters()) == 11_177_538
    ours_from(theirs, network.double())
    theirs.double()
    x = torch.randn(2, 3, 64, 48).double()
    with torch.no_grad():
        torch.testing.assert_close(network(x), theirs(x), rtol=1e-5, atol=1e-5)


def test_resnet18_is_monais_in_3d():
    theirs = randomised(
        monai_resnet18(
            spatial_dims=3,
            n_input_channels=2,
            num_classes=3,
            conv1_t_stride=2,
            shortcut_type="B",
            bias_downsample=False,
        )
    )
    network = ours_from(theirs, build(registry.find("CaseResNet18")[0], 3, channels=2))
    x = torch.randn(1, 2, 32, 40, 32)
    with torch.no_grad():
        torch.testing.assert_close(network(x), theirs(x), rtol=1e-5, atol=1e-5)


def test_multi_scale_pooling_concatenates_the_means_of_the_last_three_stages():
    network = build(registry.find("CaseResNet18MultiScale")[0], 2, channels=3).eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        maps = network.encoder(x)
        features = network.features(x)
    assert features.shape == (1, 128 + 256 + 512)
    torch.testing.assert_close(features[0, 128:384], maps[2][0].mean((1, 2)))


def test_maxima_are_pooled_beside_the_means():
    network = CaseNetwork(Maps(), 2, lambda _: None, scales=2, poolings=("mean", "max"))
    assert (network.n_features, network.pooled_widths) == (6, [2, 4])
    x = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]])
    assert network.features(x)[0].tolist() == [3, 6, 0, 3, 1.5, 4.5]


def test_squeeze_and_excitation_weighs_the_channels_of_the_last_map_by_the_slow_twin():
    network = build(registry.find("CaseResNet18SE")[0], 2, channels=3)
    gate = network.encoder.excitation
    x = torch.randn(2, 512, 3, 4)
    first, _, second = gate.excitation
    assert first.out_features == 512 // 16
    for i in range(2):
        means = torch.tensor([channel.mean().item() for channel in x[i]])
        weights = 1 / (1 + torch.exp(-(second.weight @ torch.relu(first.weight @ means + first.bias) + second.bias)))
        torch.testing.assert_close(gate(x)[i], x[i] * weights[:, None, None])
    plain = build(registry.find("CaseResNet18")[0], 2, channels=3)
    assert isinstance(plain.encoder.excitation, nn.Identity)


# --- timm

TIMM = [spec for spec in registry.case_specs() if "timm" in spec.network]


def test_the_rows_of_timm_are_the_named_ones_and_timm_has_them_with_weights():
    models = [spec.options["model"] for spec in TIMM]
    assert len(set(models)) == len(TIMM) == 15
    published = set(timm.list_pretrained())
    assert set(models) <= published
    assert all(spec.dimensions == (2,) for spec in TIMM)


@pytest.mark.parametrize("name", ["CaseResNet50", "CaseEfficientNetB0", "CaseConvNeXtTiny", "CaseCoAtNetRMLP1"])
def test_a_row_of_timm_gives_the_features_that_its_own_classifier_reads(name):
    spec = registry.find(name)[0]
    network = build(spec, 2, channels=3, patch=64).eval()
    theirs = network.encoder.model
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = theirs.forward_head(theirs.forward_features(x), pre_logits=True)
        torch.testing.assert_close(network.features(x), expected)
    assert network.n_features == expected.shape[1]


@pytest.mark.parametrize("name", ["CaseResNet50", "CaseEfficientNetB0", "CaseConvNeXtTiny"])
def test_a_row_of_timm_gives_the_maps_of_its_last_four_stages_and_leaves_no_layer_unused(name):
    spec = registry.find(name)[0]
    encoder = build(spec, 2, channels=3, patch=64).encoder
    whole = timm.create_model(spec.options["model"], in_chans=3, features_only=True)
    encoder.give_stages()
    # timm's own way to features joins the names of ConvNeXt's parts
    named = {re.sub(r"^(stem|stages)\.", r"\1_", name): value for name, value in encoder.model.state_dict().items()}
    whole.load_state_dict(
        named if any("stages_" in name for name in whole.state_dict()) else encoder.model.state_dict()
    )
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = whole.eval()(x)[-4:]
        found = encoder.eval()(x)
    assert encoder.output_channels == [each.shape[1] for each in found]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    sum(each.square().sum() for each in encoder.train()(x)).backward()
    assert [name for name, p in encoder.named_parameters() if p.grad is None] == []


def test_an_unknown_architecture_of_timm_is_one_sentence():
    from nnunet_ext.networks.topology import Topology
    from nnunet_ext.outcomes.timm_backbone import TimmEncoder

    with pytest.raises(ValueError, match=r"has no resnet0\.none; install"):
        TimmEncoder(3, Topology.from_plan(isotropic(2)), width=64, model="resnet0.none")
