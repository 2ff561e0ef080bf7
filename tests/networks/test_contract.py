"""What every declared network promises; a new family joins by being declared."""

import copy
import pickle
from collections import defaultdict
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from batchgeneratorsv2.transforms.utils.deep_supervision_downsampling import DownsampleSegForDSTransform
from dynamic_network_architectures.building_blocks.simple_conv_blocks import ConvDropoutNormReLU
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_ext.networks.channels import DEFAULT_ORDER
from tests.networks import plans
from tests.networks.freeze import fingerprint, frozen

PATCHES = {"cpu": 16, "meta": 128}  # without storage the real size costs nothing


@pytest.fixture(scope="module", params=plans.CASES, ids=plans.IDS)
def case(request):
    return request.param


@pytest.fixture(scope="module")
def patch(case):
    return plans.patch_of(*case)


@pytest.fixture(scope="module")
def network(case, patch):
    """The smallest size with deep supervision; a test that changes it copies it first."""
    spec, dims = case
    return plans.build(spec, plans.isotropic(dims), patch, deep_supervision=True).eval()


@pytest.fixture(scope="module")
def outputs(network, patch):
    return infer(network, plans.image(patch))


@pytest.fixture(scope="module")
def trained(network, patch):
    """A copy after one backward pass in training mode, and its outputs."""
    copied = copy.deepcopy(network).train()
    found = copied(plans.image(patch, batch=2))
    sum(o.square().mean() for o in found).backward()
    return copied, [o.detach() for o in found]


@torch.no_grad()
def infer(network, x):
    return network(x)


def shapes(found):
    return [tuple(o.shape[1:]) for o in found]


def target_shapes(plan, patch):
    """Shapes of the deep-supervision targets that nnU-Net's data loader makes, one per class."""
    configuration = SimpleNamespace(pool_op_kernel_sizes=plan["strides"])
    trainer = SimpleNamespace(enable_deep_supervision=True, configuration_manager=configuration)
    scales = nnUNetTrainer._get_deep_supervision_scales(trainer)
    targets = DownsampleSegForDSTransform(scales)(segmentation=torch.zeros((1, *patch)))["segmentation"]
    return [(plans.CLASSES, *t.shape[1:]) for t in targets]


def shapes_of(network):
    return {key: value.shape for key, value in network.state_dict().items()}


def check(spec, plan, patch, device="cpu"):
    """Builds for a patch and runs it: the list fits nnU-Net's targets and is finite."""
    with torch.device(device):
        network = plans.build(spec, plan, patch, deep_supervision=True).eval()
    found = infer(network, plans.image(patch).to(device))
    assert shapes(found) == target_shapes(plan, patch)
    assert device == "meta" or all(o.isfinite().all() for o in found)


def takes_any_size(spec):
    if spec.input_size is not None:
        pytest.skip(f"{spec.trainer} declares that it takes {spec.input_size} only")


def test_in_evaluation_the_list_fits_the_targets(case, patch, outputs):
    assert shapes(outputs) == target_shapes(plans.isotropic(case[1]), patch)
    assert all(o.isfinite().all() for o in outputs)


def test_in_training_the_list_fits_the_targets(case, patch, trained):
    assert shapes(trained[1]) == target_shapes(plans.isotropic(case[1]), patch)


def test_without_deep_supervision_the_first_of_the_list_is_the_output(network, patch, outputs):
    single = copy.deepcopy(network)
    nnUNetTrainer.set_deep_supervision_enabled(SimpleNamespace(is_ddp=False, network=single), False)
    for mode in (True, False):
        found = infer(single.train(mode), plans.image(patch))
        assert isinstance(found, torch.Tensor)
        assert found.shape == outputs[0].shape
    torch.testing.assert_close(found, outputs[0])


def test_prediction_is_what_training_computes(network, patch):
    """On a CPU convolutions and norms choose other forms where no gradient is wanted; exact, for small maps amplify."""
    exact, x = copy.deepcopy(network).double(), plans.image(patch).double()
    for found, expected in zip(infer(exact, x), exact(x), strict=True):
        torch.testing.assert_close(found, expected.detach(), atol=1e-8, rtol=1e-8)


def test_every_parameter_gets_a_finite_gradient_that_is_not_all_zero(trained):
    gradients = {name: p.grad for name, p in trained[0].named_parameters()}
    assert [n for n, g in gradients.items() if g is None] == []
    assert [n for n, g in gradients.items() if not g.isfinite().all()] == []
    assert [n for n, g in gradients.items() if not g.any()] == []


def test_every_channel_that_is_read_reaches_the_output_and_no_other(case, patch, network):
    spec, _ = case
    read = spec.modalities or DEFAULT_ORDER[plans.CHANNELS]
    x = plans.image(patch).requires_grad_()
    (gradient,) = torch.autograd.grad(network(x)[0].square().mean(), x)
    largest = gradient.abs().amax((0, *range(2, x.ndim)))
    reached = [m for m, g in zip(DEFAULT_ORDER[plans.CHANNELS], largest, strict=True) if g > 1e-9]
    assert reached == [m for m in DEFAULT_ORDER[plans.CHANNELS] if m in read]


def test_weights_of_another_size_or_version_are_refused_in_a_sentence(network):
    state = network.state_dict()
    first = next(key for key, value in state.items() if value.ndim > 1)
    wrong = [
        {key: value for key, value in state.items() if key != first},
        {**state, "encoder.unknown": state[first]},
        {**state, first: state[first][:1, :0]},
    ]
    for weights in wrong:
        with pytest.raises(ValueError, match=r"not those of \w+ in size .* a version before 0\.2\.0.* or train anew"):
            network.load_state_dict(weights)
    assert network.load_state_dict(wrong[0], strict=False).missing_keys == [first]


def test_each_weight_has_one_name(network):
    blocks = [n + "." for n, m in network.named_modules(remove_duplicate=False) if isinstance(m, ConvDropoutNormReLU)]
    names = defaultdict(list)
    for key, value in network.state_dict(keep_vars=True).items():
        names[value.untyped_storage().data_ptr()].append(key)
    doubled = [keys for keys in names.values() if len(keys) > 1]
    # dynamic-network-architectures itself registers what its block holds once more in all_modules
    assert [ks for ks in doubled if not any(all(k.startswith(b) for k in ks) for b in blocks)] == []


def test_a_copied_and_pickled_network_is_the_same(network, patch, outputs):
    twin = pickle.loads(pickle.dumps(copy.deepcopy(network)))
    for found, expected in zip(infer(twin, plans.image(patch)), outputs, strict=True):
        assert torch.equal(found, expected)


def test_bfloat16_weights(network, patch, outputs):
    found = infer(copy.deepcopy(network).to(torch.bfloat16), plans.image(patch).to(torch.bfloat16))
    assert shapes(found) == shapes(outputs)
    assert all(o.isfinite().all() for o in found)


def test_autocast(network, patch, outputs):
    with torch.autocast("cpu", torch.bfloat16):
        found = infer(network, plans.image(patch))
    assert shapes(found) == shapes(outputs)
    assert all(o.isfinite().all() for o in found)


@pytest.mark.parametrize("planned", [plans.thick_slices, plans.short_axis])
def test_anisotropic_plans(case, planned):
    spec, dims = case
    takes_any_size(spec)
    check(spec, *planned(dims))


@pytest.mark.parametrize("size", [(48, 32, 32), (16, 32, 16)], ids=str)
def test_one_checkpoint_takes_other_sizes(case, network, size):
    spec, dims = case
    takes_any_size(spec)
    size = size[3 - dims :]
    found = infer(network, plans.image(size))
    assert shapes(found) == target_shapes(plans.isotropic(dims), size)
    assert all(o.isfinite().all() for o in found)


@pytest.mark.parametrize(("stages", "device"), [(3, "cpu"), (4, "meta"), (6, "meta"), (7, "meta")])
def test_plans_of_three_to_seven_stages(case, stages, device):
    spec, dims = case
    patch = spec.input_size or (max(PATCHES[device], 2**stages),) * dims
    check(spec, plans.isotropic(dims, stages), patch, device)


def test_residual_plans_give_the_same_network(case, patch):
    spec, dims = case
    with torch.device("meta"):
        plain, residual = (plans.build(spec, p(dims), patch) for p in (plans.isotropic, plans.residual))
    assert shapes_of(plain) == shapes_of(residual)


def test_sizes_double_and_need_no_storage_on_the_meta_device(case, patch):
    spec, dims = case
    counts = []
    for size in spec.sizes:
        with torch.device("meta"):
            network = plans.build(spec, plans.isotropic(dims), patch, size=size)
        assert all(t.is_meta for t in [*network.parameters(), *network.buffers()])
        counts.append(sum(p.numel() for p in network.parameters()))
    assert all(2 * small == large for small, large in pairwise(spec.widths.values()))
    assert all(2 < large / small < 5 for small, large in pairwise(counts)), counts


def test_plans_file_names_the_network(case, patch, network):
    spec, dims = case
    torch.manual_seed(0)
    planned = {**plans.isotropic(dims), "size": spec.sizes[0], "patch_size": patch}
    path = f"nnunet_ext.networks.models.{spec.trainer}"
    configuration = SimpleNamespace(
        network_arch_class_name=path,
        network_arch_init_kwargs=planned,
        network_arch_init_kwargs_req_import=plans.NEEDS_IMPORT,
    )
    stock = nnUNetTrainer.build_network_architecture(None, configuration, plans.CHANNELS, plans.CLASSES, True)
    assert type(stock) is type(network)
    assert stock.decoder.deep_supervision
    ours, theirs = network.state_dict(), stock.state_dict()
    assert list(ours) == list(theirs)
    assert [key for key in ours if not torch.equal(ours[key], theirs[key])] == []


def test_weights_keep_their_names_and_shapes(case):
    spec, dims = case
    known = frozen().get(f"{spec.trainer}-{dims}d")
    assert known is not None, "new network: run `python -m tests.networks.freeze` and commit the file that it changes"
    assert fingerprint(spec, dims) == known, (
        f"Checkpoints of {spec.trainer} can no longer be loaded; if that is meant, run "
        f"`python -m tests.networks.freeze {spec.trainer}` and commit the file that it changes."
    )


def test_further_channels_change_the_output_and_no_logits(case, patch):
    spec, dims = case
    network = plans.build(
        spec, plans.isotropic(dims), patch, input_channels=plans.CHANNELS + 3, image_channels=plans.CHANNELS
    ).eval()
    x = plans.image(patch, plans.CHANNELS + 3)
    moved = x.clone()
    moved[:, -1] += torch.linspace(-1, 1, patch[-1])
    first, second = infer(network, x), infer(network, moved)
    assert first.shape == (1, plans.CLASSES, *patch)
    assert not torch.allclose(first, second)


def test_channel_order_travels_with_the_weights(case, patch, network, outputs):
    spec, _ = case
    if not spec.branches:
        pytest.skip(f"{spec.trainer} reads all channels alike")
    order = [DEFAULT_ORDER[plans.CHANNELS].index(m) for m in spec.modalities]
    assert network.encoder.modality_channels.tolist() == order
    other = copy.deepcopy(network)
    other.encoder.modality_channels.copy_(torch.tensor([3 - i for i in order]))
    network_of_other_order = copy.deepcopy(network)
    network_of_other_order.load_state_dict(other.state_dict())
    found = infer(network_of_other_order, plans.image(patch).flip(1))
    assert torch.equal(found[0], outputs[0])


def test_two_channels(case, patch):
    spec, dims = case
    if not spec.branches or len(spec.modalities) != 2:
        pytest.skip(f"{spec.trainer} does not read two modalities by name")
    network = plans.build(spec, plans.isotropic(dims), patch, input_channels=2).eval()
    assert network.encoder.modality_channels.tolist() == [0, 1]
    assert infer(network, plans.image(patch, 2)).shape == (1, plans.CLASSES, *patch)


def test_another_number_of_channels_is_refused(case, patch):
    spec, dims = case
    if not spec.branches:
        pytest.skip(f"{spec.trainer} reads any number of channels")
    with pytest.raises(ValueError, match="4 image channels"):
        plans.build(spec, plans.isotropic(dims), patch, input_channels=3)
