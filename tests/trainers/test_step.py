"""The step by the recipe's words: accumulation, clipping, precision, frozen parameters; by default nnU-Net's own."""

import copy

import pytest
import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn

from nnunet_ext.networks.registry import find, specs
from nnunet_ext.trainers.building import adapted, network_builder
from nnunet_ext.trainers.guard import SKIPPED_STEPS, FiniteLoss, NonFiniteLossError, first_non_finite
from nnunet_ext.trainers.losses import with_parts
from nnunet_ext.trainers.optimisers import optimiser_for, plateau_share
from nnunet_ext.trainers.precision import scaler_for
from nnunet_ext.trainers.recipe import Recipe
from nnunet_ext.trainers.step import accumulate, update
from tests.networks import plans
from tests.trainers import workspace
from tests.trainers.test_losses import of_regions

CPU = torch.device("cpu")


class Tiny(nn.Module):
    """An encoder and a decoder with two heads, as the networks have them."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Sequential(nn.Conv3d(2, 4, 3, padding=1), nn.InstanceNorm3d(4, affine=True), nn.ReLU())
        self.decoder = nn.Module()
        self.decoder.seg_layers = nn.ModuleList([nn.Conv3d(4, 3, 1), nn.Conv3d(4, 3, 1)])

    def forward(self, x):
        return self.decoder.seg_layers[-1](self.encoder(x))


def batches(count, size=1):
    generator = torch.Generator().manual_seed(5)
    for _ in range(count):
        data = torch.randn(size, 2, 6, 6, 6, generator=generator)
        yield {"data": data, "target": torch.rand(size, 3, 6, 6, 6, generator=generator) > 0.5}


def joined(parts):
    parts = list(parts)
    return {name: torch.cat([part[name] for part in parts]) for name in ("data", "target")}


def gradients(network, given, count, **options):
    loss = accumulate(network, of_regions(), iter(given), count, device=CPU, precision="device", **options)
    return loss, [p.grad.clone() for p in network.parameters() if p.grad is not None]


def test_an_accumulation_of_four_is_the_four_fold_batch():
    loss, found = gradients(Tiny(), batches(4), 4)
    whole, expected = gradients(Tiny(), [joined(batches(4))], 1)
    assert loss.item() == pytest.approx(whole.item(), abs=1e-6)
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-6)
    _, single = gradients(Tiny(), batches(4), 1)
    assert not torch.allclose(single[0], expected[0], atol=1e-4)


def test_an_accumulation_draws_its_batches():
    given = batches(9)
    gradients(Tiny(), given, 4)
    assert len(list(given)) == 5


@pytest.mark.parametrize("clip", [0.5, 12.0])
def test_clipping_bounds_the_norm_of_the_step(clip):
    network = nn.Linear(1, 2, bias=False)
    before = network.weight.detach().clone()
    network.weight.grad = torch.tensor([[3.0], [4.0]])
    update(network, torch.optim.SGD(network.parameters(), lr=1.0), clip)
    moved = (before - network.weight).norm().item()
    assert moved == pytest.approx(min(clip, 5.0), rel=1e-5)


def test_a_frozen_encoder_stays_bit_for_bit_and_learns_slowly_afterwards():
    network = Tiny()
    network.decoder.seg_layers[0] = nn.Identity()
    recipe = Recipe(frozen_epochs=2, epochs=4, optimiser="AdamW", initial_lr=1e-2, weight_decay=0.1)
    optimiser, schedule = optimiser_for(recipe, network)
    rates = []
    for epoch, batch in enumerate(batches(4)):
        schedule.step(epoch)
        rates.append([group["lr"] for group in optimiser.param_groups])
        before = {name: p.detach().clone() for name, p in network.named_parameters()}
        optimiser.zero_grad()
        accumulate(network, of_regions(), iter([batch]), 1, device=CPU, precision="device")
        update(network, optimiser, 12.0)
        for name, p in network.named_parameters():
            assert torch.equal(p, before[name]) == (epoch < 2 and name.startswith("encoder")), (epoch, name)
    for epoch, (first, *_, last) in enumerate(rates):
        assert first == pytest.approx(recipe.learning_rate(epoch))
        assert last == pytest.approx(0 if epoch < 2 else first / 10)


@pytest.mark.parametrize("spec", specs(), ids=lambda spec: spec.name)
def test_every_network_has_an_encoder_that_can_be_frozen(spec):
    dims = max(spec.dimensions)
    with torch.device("meta"):
        network = plans.build(spec, plans.isotropic(dims), size=spec.sizes[0])
    optimiser, _ = optimiser_for(Recipe(frozen_epochs=5), network)
    rest, encoder = (group["params"] for group in optimiser.param_groups)
    assert {id(p) for p in encoder} == {id(p) for p in network.encoder.parameters()}
    assert {id(p) for p in rest} & {id(p) for p in network.decoder.parameters()}


# --- precision and heads, in the network that is built


def test_bf16_is_in_the_network_itself():
    plain = Tiny()
    low = adapted(copy.deepcopy(plain), Recipe(precision="BF16"))
    x = next(batches(1))["data"]
    with torch.autocast("cpu", torch.bfloat16):
        expected = plain(x)
    assert torch.equal(low(x), expected.float())
    assert low(x).dtype == torch.float32
    assert not torch.equal(low(x), plain(x))
    assert low.state_dict().keys() == plain.state_dict().keys()


def test_fp32_stays_where_others_switch_to_half():
    plain = Tiny()
    full = adapted(copy.deepcopy(plain), Recipe(precision="FP32"))
    x = next(batches(1))["data"]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(full(x), plain.float()(x)) is False, "the plain one is in half precision here"
        inside = full(x)
    assert torch.equal(inside, plain(x))


def test_amp_computes_in_half_and_scales_the_loss():
    seen = []
    network = Tiny()
    network.encoder[0].register_forward_hook(lambda _m, _i, out: seen.append(out.dtype))
    low = adapted(network, Recipe(precision="AMP"))
    scaler = scaler_for(CPU, "AMP", None)
    optimiser, _ = optimiser_for(Recipe(precision="AMP"), low)
    before = [p.detach().clone() for p in low.parameters()]
    for batch in batches(3):
        optimiser.zero_grad()
        accumulate(low, of_regions(), iter([batch]), 1, device=CPU, precision="AMP", scaler=scaler)
        update(low, optimiser, 12.0, scaler)
    assert set(seen) == {torch.float16}
    assert any(not torch.equal(a, b) for a, b in zip(before, low.parameters(), strict=True))
    assert scaler.is_enabled()


def test_which_precision_scales_the_loss():
    usual = object()
    assert scaler_for(CPU, "device", usual) is usual
    assert scaler_for(CPU, "AMP", usual) is usual
    assert scaler_for(CPU, "FP32", usual) is None
    assert scaler_for(CPU, "BF16", usual) is None


# one network of each decoder
DECODERS = ("UNet3D", "DualBranchMobileNetV2DilatedFixed", "UNETR", "SwinUNETR", "MobileUNETR", "QuadBranchAttention")


@pytest.mark.parametrize("name", DECODERS)
def test_without_deep_supervision_no_head_is_unused(name):
    """Every parameter gets a gradient: several processes wait for each one's."""
    spec = find(name)[0]
    dims = max(spec.dimensions)
    with torch.device("meta"):
        built = plans.build(
            spec, plans.isotropic(dims), patch=(plans.PATCH,) * dims, size=spec.sizes[0], deep_supervision=False
        )
        keys = built.state_dict().keys()
        network = adapted(built, Recipe(deep_supervision=False))
        output = network(torch.empty(1, plans.CHANNELS, *(plans.PATCH,) * dims))
        output.sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []
    heads = {name for name in keys if name.startswith("decoder.seg_layers.")}
    left = heads & network.state_dict().keys()
    assert network.state_dict().keys() == keys - heads | left
    assert len(left) == 2, "weight and bias of the last one"
    assert len(heads) > 2


# --- schedules over epochs


def test_a_plateau_cuts_the_rate_when_nothing_is_gained():
    rising = [k / 100 for k in range(40)]
    assert plateau_share(rising) == 1
    assert plateau_share([*rising, *[0.39] * 30]) == 1
    assert plateau_share([*rising, *[0.39] * 31]) == pytest.approx(0.2)
    assert plateau_share([*rising, *[0.39] * 62]) == pytest.approx(0.04)


def test_the_plateau_reads_the_log_after_the_warmup():
    recipe = Recipe(schedule="plateau", warmup_epochs=5, initial_lr=1.0)
    log = [0.9] * 5 + [0.1] * 40
    optimiser, schedule = optimiser_for(recipe, Tiny(), lambda: log)
    rates = []
    for epoch in (2, 5, 36, 37, 44):
        schedule.step(epoch)
        rates.append(optimiser.param_groups[0]["lr"])
    assert rates == pytest.approx([0.5, 1.0, 1.0, 0.2, 0.2])


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("step", {0: 1, 49: 1, 50: 0.1, 74: 0.1, 75: 0.01, 99: 0.01}),
        ("exponential", {0: 1, 50: 0.1, 75: 0.01**0.75}),
        ("cosine", {0: 1, 50: 0.5}),
        ("poly", {0: 1, 50: 0.5**0.9}),
    ],
)
def test_curves_by_hand(schedule, expected):
    recipe = Recipe(schedule=schedule, initial_lr=1.0, epochs=100)
    assert {epoch: recipe.learning_rate(epoch) for epoch in expected} == pytest.approx(expected)


# --- losses that are not finite


def test_the_diagnosis_runs_in_the_steps_precision():
    """float16 overflows where float32 does not."""
    network = nn.Sequential(nn.Conv3d(1, 1, 1), nn.Conv3d(1, 1, 1))
    with torch.no_grad():
        for conv in network:
            conv.weight.fill_(1000)
    x = torch.full((1, 1, 2, 2, 2), 100.0)
    assert first_non_finite(network, x) == "every layer's output is finite"
    where = first_non_finite(network, x, torch.autocast("cpu", torch.float16))
    assert where == "the first layer with such values is 0 (Conv3d)"


def test_without_a_scaler_a_broken_weight_is_named_first():
    network = Tiny()
    with torch.no_grad():
        network.decoder.seg_layers[1].bias[0] = torch.nan
    x = next(batches(1))["data"]
    assert "parameter decoder.seg_layers.1.bias is not finite since" in first_non_finite(network, x)
    assert "first layer with such values is decoder.seg_layers.1" in first_non_finite(network, x, scaled=True)


def test_a_scaler_may_skip_some_steps_before_the_training_stops():
    loss = FiniteLoss(nn.MSELoss(), SKIPPED_STEPS)
    bad, good = torch.tensor([torch.inf], requires_grad=True), torch.tensor([1.0], requires_grad=True)
    for _ in range(2):
        for _ in range(SKIPPED_STEPS):
            loss(bad, torch.zeros(1))
        loss(good, torch.zeros(1))
    for _ in range(SKIPPED_STEPS):
        loss(bad, torch.zeros(1))
    with pytest.raises(NonFiniteLossError, match=f"for the {SKIPPED_STEPS + 1}th step in a row"):
        loss(bad, torch.zeros(1))


def test_a_skipped_step_leaves_the_weights():
    network = Tiny()
    scaler = scaler_for(CPU, "AMP", None)
    optimiser, _ = optimiser_for(Recipe(), network)
    before = copy.deepcopy(network.state_dict())
    batch = next(batches(1))
    batch["data"][0, 0, 0, 0, 0] = torch.inf
    loss = FiniteLoss(with_parts(of_regions(), "DiceCE"), 1)
    accumulate(network, loss, iter([batch]), 1, device=CPU, precision="AMP", scaler=scaler)
    scale = scaler.get_scale()
    update(network, optimiser, 12.0, scaler)
    assert scaler.get_scale() == scale / 2
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_the_usual_step_is_nnunets_to_the_last_bit():
    def nnunets(network, optimiser, batch):
        optimiser.zero_grad(set_to_none=True)
        loss = of_regions()(network(batch["data"]), batch["target"])
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 12)
        optimiser.step()
        return loss.detach()

    ours, theirs = Tiny(), Tiny()
    a, b = optimiser_for(Recipe(), ours)[0], torch.optim.SGD(theirs.parameters(), 1e-2, 0.99, 0, 3e-5, nesterov=True)
    for batch in batches(3):
        a.zero_grad(set_to_none=True)
        loss = accumulate(ours, of_regions(), iter([batch]), 1, device=CPU, precision="device")
        update(ours, a, 12.0)
        assert torch.equal(loss, nnunets(theirs, b, batch))
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(p, q)


def test_networks_of_the_zoo_are_adapted_where_they_are_built():
    builder = network_builder("nnUNetTrainer_UNet3D_XS_NoDS_BF16")
    configuration = PlansManager(workspace.plans(4)).get_configuration("3d_fullres")
    network = builder(configuration, 4, 3, deep_supervision=True)
    assert [type(head).__name__ for head in network.decoder.seg_layers] == ["Identity", "Conv3d"]
    seen = []
    network.decoder.seg_layers[1].register_forward_hook(lambda _m, _i, out: seen.append(out.dtype))
    assert network(torch.randn(1, 4, 16, 16, 16)).shape == (1, 3, 16, 16, 16)
    assert seen == [torch.bfloat16]
