"""What a hook keeps stays what it was, and what nobody watches is overwritten."""

import copy

import pytest
import torch
from torch import nn

from nnunet_ext.networks import registry
from nnunet_ext.networks.chain import Chain
from nnunet_ext.networks.conv import Conv3d
from nnunet_ext.networks.norm import InstanceNorm3d
from tests.networks import plans

NETWORKS = (
    "UNet3D",
    "DualBranchGhost",
    "DualBranchRepLK",
    "DualBranchMobileNetV2DilatedFixed",
    "DualBranchShuffleV1",
    "QuadBranchAttention",
    "UNETR",
    "SwinUNETR",
    "MobileUNETR3D",
)
WATCHED = (nn.modules.conv._ConvNd, nn.modules.instancenorm._InstanceNorm, nn.LayerNorm)
PLAN = plans.isotropic(3, 3)


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    spec, _ = registry.find(f"{request.param}_XS")
    return plans.build(spec, PLAN, (16, 16, 16)).eval()


def watch(network, kept):
    """Keeps the output of every convolution and norm, and a copy of it as it was."""

    def keep(module, inputs, output):
        kept.append((output, output.detach().clone()))

    return [m.register_forward_hook(keep) for m in network.modules() if isinstance(m, WATCHED)]


@pytest.mark.parametrize("gradients", [False, True])
def test_what_hooks_keep_stays_as_it_was_and_changes_no_logits(network, gradients):
    x = plans.image((16, 16, 16))
    with torch.set_grad_enabled(gradients):
        expected, kept = network(x), []
        handles = watch(network, kept)
        found = network(x)
    for handle in handles:
        handle.remove()
    assert len(kept) > 10
    assert [i for i, (output, before) in enumerate(kept) if not torch.equal(output, before)] == []
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def block():
    torch.manual_seed(0)
    return Chain(Conv3d(8, 16, 3, padding=1), InstanceNorm3d(16, affine=True), nn.LeakyReLU(inplace=True)).eval()


def memory(chain, x):
    """Addresses of the maps that the convolution, the norm and the activation give."""
    addresses = []
    for module in chain:
        forward = module.forward

        def noted(*args, forward=forward, **options):
            y = forward(*args, **options)
            addresses.append(y.data_ptr())
            return y

        module.forward = noted
    chain(x)
    return addresses


@torch.no_grad()
def test_without_hooks_one_map_is_enough():
    assert len({*memory(block(), plans.image((8, 8, 8), 8, batch=2))}) == 1


def test_in_training_the_activation_takes_the_norms_map():
    conv, norm, act = memory(block().train(), plans.image((8, 8, 8), 8, batch=2))
    assert norm == act != conv


KINDS = ("register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", [0, 1, 2])
@torch.no_grad()
def test_a_hook_of_any_kind_at_any_place_keeps_all_maps(kind, place):
    chain = block()
    getattr(chain[place], kind)(lambda *_: None)
    with torch.no_grad():
        assert len({*memory(chain, plans.image((8, 8, 8), 8, batch=2))}) > 1


@torch.no_grad()
def test_a_hook_on_all_modules_keeps_the_maps_as_well():
    kept, chain = [], block()
    handle = nn.modules.module.register_module_forward_hook(lambda m, i, o: kept.append((o, o.clone())))
    try:
        chain(plans.image((8, 8, 8), 8, batch=2))
    finally:
        handle.remove()
    assert len(kept) == 4
    assert all(torch.equal(*pair) for pair in kept)


def test_gradients_by_a_full_backward_hook_are_those_of_the_maps():
    """As Grad-CAM reads them; torch refuses to change the output of such a module in place."""
    chain, seen = block(), []
    plain = copy.deepcopy(chain)
    plain[2].inplace = False
    x = plans.image((8, 8, 8), 8, batch=2)
    chain[1].register_full_backward_hook(lambda module, inward, outward: seen.append(outward[0]))
    chain(x).square().sum().backward()
    normalised = nn.Sequential(*plain)[:2](x).detach().requires_grad_()
    plain[2](normalised).square().sum().backward()
    torch.testing.assert_close(seen[0], normalised.grad)


def test_other_first_modules_are_refused_for_their_output_may_be_anothers():
    with pytest.raises(AssertionError, match="memory of its own"):
        Chain(nn.Identity(), InstanceNorm3d(8))(plans.image((8, 8, 8), 8, batch=2))
