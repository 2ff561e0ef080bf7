"""One weight per modality: the gate against squeeze-and-excitation, and what the network promises about its weights."""

import copy

import pytest
import torch
from timm.layers import SEModule

from nnunet_ext.networks import registry
from nnunet_ext.networks.modality_attention import ModalityGate
from tests.networks import plans
from tests.networks.oracles import gradients, maps, randomise

SPEC, _ = registry.find("quadbranch_4modal_attention_unet")
M, C = 4, 8
SIZES = {2: (9, 11), 3: (3, 4, 5)}


@torch.no_grad()
def squeeze_and_excitation(gate, channels):
    """timm's module whose channels of one modality share our weight."""
    first, _, last, _ = gate.excitation
    theirs = SEModule(M * channels, rd_channels=first.out_features)
    for conv, layer, repeat in ((theirs.fc1, first, 1), (theirs.fc2, last, channels)):
        conv.weight.copy_(layer.weight.repeat_interleave(repeat, 0)[..., None, None])
        conv.bias.copy_(layer.bias.repeat_interleave(repeat, 0))
    return theirs


@pytest.mark.parametrize("channels", [C, 24])
def test_gate_is_timms_squeeze_and_excitation(oracle_record, channels):
    gate = randomise(ModalityGate(M, channels))
    branches = [maps(2, channels, *SIZES[2], seed=i) for i in range(M)]
    expected = squeeze_and_excitation(gate, channels)(torch.cat(branches, 1))
    found = torch.cat(gate(branches), 1)
    what = f"gate of {M} modalities with {channels} channels each"
    oracle_record("channel attention per modality", "timm SEModule", what, found, expected)


def gate_twin(gate, stacked):
    """(B, M, C, Z, Y, X) weighed, voxel by voxel and sample by sample."""
    first, _, last, _ = gate.excitation
    found = []
    for sample in stacked:
        squeezed = torch.stack([channel.sum() / channel.numel() for modality in sample for channel in modality])
        hidden = torch.clamp(first.weight @ squeezed + first.bias, min=0)
        weights = 1 / (1 + torch.exp(-(last.weight @ hidden + last.bias)))
        found.append(torch.stack([w * modality for w, modality in zip(weights, sample, strict=True)]))
    return torch.stack(found)


def test_gate_is_its_twin_in_value_and_gradient(oracle_record):
    gate = randomise(ModalityGate(M, C).double())
    results = []
    for compute in (lambda x: torch.stack(gate(x.unbind(1)), 1), lambda x: gate_twin(gate, x)):
        x = maps(2, M, C, *SIZES[3]).double().requires_grad_()
        y = compute(x)
        results.append({"value": y.detach(), **gradients(gate, x, y)})
    ours, theirs = results
    for name, value in ours.items():
        what = "3D: " + ("value" if name == "value" else "gradient")
        oracle_record("channel attention per modality", "loop over samples and modalities", what, value, theirs[name])


@pytest.fixture(scope="module", params=SPEC.dimensions)
def network(request):
    dims = request.param
    return randomise(plans.build(SPEC, plans.isotropic(dims), plans.patch_of(SPEC, dims)))


def image_for(network, seed=1):
    return maps(2, plans.CHANNELS, *(32,) * (len(network.encoder.strides[0])), seed=seed)


@torch.inference_mode()
def test_reading_the_weights_leaves_the_network_and_its_logits_as_they_were(network):
    x = image_for(network)
    before, state = network(x), {k: v.clone() for k, v in network.state_dict().items()}
    attributes = {name: set(vars(module)) for name, module in network.named_modules()}
    weights = network.modality_weights(x)
    assert weights.shape == (2, M)
    assert ((weights > 0) & (weights < 1)).all()
    assert torch.equal(network(x), before)
    assert all(torch.equal(v, state[k]) for k, v in network.state_dict().items())
    assert {name: set(vars(module)) for name, module in network.named_modules()} == attributes


@torch.inference_mode()
def test_the_weights_are_of_the_input_that_is_given_not_of_the_last_forward(network):
    x, other = image_for(network), image_for(network, seed=2)
    expected = network.modality_weights(x)
    network(other)
    assert torch.equal(network.modality_weights(x), expected)
    assert not torch.allclose(network.modality_weights(other), expected)
    torch.testing.assert_close(network.modality_weights(torch.cat((other, x)))[2:], expected)


@torch.inference_mode()
def test_with_open_gates_it_is_the_network_without_attention(network):
    spec, _ = registry.find("quadbranch_4modal_unet")
    dims = len(network.encoder.strides[0])
    without = plans.build(spec, plans.isotropic(dims)).eval()
    opened = copy.deepcopy(network)
    for gate in opened.encoder.gates:
        gate.excitation[2].bias.fill_(1e9)
    unused = without.load_state_dict(opened.state_dict(), strict=False).unexpected_keys
    assert unused
    assert all(key.startswith("encoder.gates.") for key in unused)
    x = image_for(network)
    torch.testing.assert_close(opened(x), without(x))
    assert not torch.allclose(network(x), without(x))
