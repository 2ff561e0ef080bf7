"""One weight per modality: the gate against squeeze-and-excitation, and what the network promises about its weights."""

import copy

import pytest
import torch
from timm.layers import SEModule
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from dataset_conversion.brats.phantom import CONTRASTS, make_phantom
from nnunet_ext.networks import registry
from nnunet_ext.networks.modality_attention import ModalityGate
from tests.networks import plans
from tests.networks.oracles import gradients, maps, randomise

SPEC, _ = registry.find("quadbranch_4modal_attention_unet")
M, C = 4, 8
SIZES = {2: (9, 11), 3: (3, 4, 5)}
SEEDS = range(5)


@torch.no_grad()
def squeeze_and_excitation(gate, channels):
    """timm's module whose channels of one modality share our weight; the paper's squeeze, SiLU for ReLU."""
    first, _, last = gate.excitation
    theirs = SEModule(M * channels, rd_channels=first.out_features, act_layer=nn.SiLU)
    for conv, layer, repeat in ((theirs.fc1, first, 1), (theirs.fc2, last, channels)):
        conv.weight.copy_(layer.weight.repeat_interleave(repeat, 0)[..., None, None])
        conv.bias.copy_(layer.bias.repeat_interleave(repeat, 0))
    return theirs


@pytest.mark.parametrize("channels", [C, 24])
def test_excitation_is_timms_squeeze_and_excitation_of_what_is_squeezed(oracle_record, channels):
    gate = randomise(ModalityGate(M, channels))
    nn.init.zeros_(gate.own)
    branches, spread = [maps(2, channels, *SIZES[2], seed=i) for i in range(M)], maps(2, M, seed=9).abs()
    squeezed = gate.squeeze(branches, spread).flatten(1)[..., None, None]
    expected = (squeeze_and_excitation(gate, channels)(squeezed) / squeezed).flatten(1)[:, ::channels]
    what = f"gate of {M} modalities with {channels} channels each"
    oracle_record("channel attention per modality", "timm SEModule", what, gate.weights(branches, spread), expected)


def gate_twin(gate, stacked, spread):
    """(B, M, C, Z, Y, X) weighed, voxel by voxel and sample by sample."""
    first, _, last = gate.excitation
    found = []
    for sample, scales in zip(stacked, spread, strict=True):
        magnitudes = [[abs(channel).sum() / channel.numel() for channel in modality] for modality in sample]
        squeezed = [[torch.log(1 + s * m) for m in row] for s, row in zip(scales, magnitudes, strict=True)]
        hidden = first.weight @ torch.stack([v for row in squeezed for v in row]) + first.bias
        logits = last.weight @ (hidden / (1 + torch.exp(-hidden))) + last.bias
        logits = [z + own * sum(row) / len(row) for z, own, row in zip(logits, gate.own, squeezed, strict=True)]
        found.append(torch.stack([m / (1 + torch.exp(-z)) for z, m in zip(logits, sample, strict=True)]))
    return torch.stack(found)


def test_gate_is_its_twin_in_value_and_gradient(oracle_record):
    gate, results = randomise(ModalityGate(M, C).double()), []
    spread = maps(2, M, seed=9).double().abs()
    for compute in (lambda x: torch.stack(gate(x.unbind(1), spread), 1), lambda x: gate_twin(gate, x, spread)):
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
        gate.excitation[-1].bias.fill_(1e9)
    unused = without.load_state_dict(opened.state_dict(), strict=False).unexpected_keys
    assert unused
    assert all(key.startswith("encoder.gates.") for key in unused)
    x = image_for(network)
    torch.testing.assert_close(opened(x), without(x))
    assert not torch.allclose(network(x), without(x))


def normalised(volume):
    """As nnU-Net does it: zero mean and unit spread within the brain, zeros around it."""
    volume = torch.tensor(volume, dtype=torch.float32)
    brain = volume > 0
    return torch.where(brain, (volume - volume[brain].mean()) / volume[brain].std(), torch.zeros(()))


@pytest.fixture(scope="module")
def phantom():
    """(1, 4, 16, 16, 16)."""
    return torch.stack([normalised(image) for image in make_phantom((16, 16, 16), 0, 0).images])[None]


def noise_like(image):
    """Noise of the image's mean and spread."""
    noise = maps(*image.shape, seed=7)
    return (noise - noise.mean()) / noise.std() * image.std() + image.mean()


CHANGES = {  # what is done to one modality's image -> by how much at least its weight moves before any training
    "zeros": (torch.zeros_like, 0.02),
    "ten times as bright": (lambda image: 10 * image, 0.1),
    "half as bright": (lambda image: image / 2, 0.01),
    "noise of unit spread": (lambda image: maps(*image.shape, seed=7), 0.01),
    "noise of the same mean and spread": (noise_like, 0.001),
}


@pytest.fixture(scope="module", params=[(dims, size, seed) for dims in (2, 3) for size, seed in (("XS", 0), ("S", 1))])
def untrained(request):
    dims, size, seed = request.param
    torch.manual_seed(seed)
    network = registry.build(SPEC, plans.CHANNELS, plans.CLASSES, plans.isotropic(dims, 3), size=size)
    return network.apply(network.initialize).eval()


@pytest.mark.parametrize("change", CHANGES)
@torch.inference_mode()
def test_before_training_a_weight_follows_the_image_of_its_modality(untrained, phantom, change):
    x = phantom if len(untrained.encoder.strides[0]) == 3 else phantom[:, :, 8]
    changed_to, least = CHANGES[change]
    before = untrained.modality_weights(x)[0]
    for modality in range(M):
        other = x.clone()
        other[:, modality] = changed_to(x[:, modality])
        assert (untrained.modality_weights(other)[0] - before)[modality].abs() > least


def slices(cases):
    """Slices (N, Y, X) of FLAIR through the tumour of phantoms, and the masks of the whole tumour."""
    images, masks = [], []
    for case in cases:
        phantom = make_phantom((16, 16, 16), 0, case)
        mask = torch.tensor(phantom.labels > 0)
        largest = mask.flatten(1).sum(1).topk(4).indices
        images.append(normalised(phantom.images[CONTRASTS.index("flair")])[largest])
        masks.append(mask[largest])
    return torch.cat(images), torch.cat(masks).float()


def planted(images, modality, generator):
    """(N, 4, Y, X): one modality shows the slice, each other one a slice of anybody, with the same statistics."""
    shuffled = [images[torch.randperm(len(images), generator=generator)] for _ in range(M)]
    return torch.stack([images if m == modality else s for m, s in enumerate(shuffled)], 1)


@pytest.fixture(scope="module")
def rankings():
    """For each seed: the planted modality, and the modality of the largest weight before and after training."""
    torch.manual_seed(0)
    images, masks = slices(range(12))
    held_out, _ = slices(range(12, 16))
    return [ranking(seed, images, masks, held_out) for seed in SEEDS]


def ranking(seed, images, masks, held_out):
    modality, generator = seed % M, torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    network = registry.build(SPEC, plans.CHANNELS, 1, plans.isotropic(2, 3), size="XS")
    network.apply(network.initialize)
    optimiser, test = torch.optim.AdamW(network.parameters(), 1e-2), planted(held_out, modality, generator)

    @torch.no_grad()
    def first():
        return network.modality_weights(test).mean(0).argmax().item()

    before = first()
    for _ in range(30):
        chosen = torch.randint(len(images), (8,), generator=generator)
        logits = network(planted(images, modality, generator)[chosen])[:, 0]
        optimiser.zero_grad()
        binary_cross_entropy_with_logits(logits, masks[chosen]).backward()
        optimiser.step()
    return modality, before, first()


def test_after_training_the_modality_that_shows_the_tumour_ranks_first(rankings):
    assert [after for _, _, after in rankings] == [modality for modality, _, _ in rankings]
    assert [before for _, before, _ in rankings] != [modality for modality, _, _ in rankings]


def test_autocast_keeps_the_type_of_the_maps(untrained, phantom):
    x = phantom if len(untrained.encoder.strides[0]) == 3 else phantom[:, :, 8]
    seen = []
    handle = untrained.encoder.gates[0].register_forward_hook(lambda m, i, o: seen.extend([*i[0], *o]))
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        untrained(x)
    handle.remove()
    assert len({t.dtype for t in seen}) == 1
