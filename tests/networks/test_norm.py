import copy
import pickle
import warnings

import pytest
import torch
from torch import nn

from nnunet_ext.networks import norm, registry
from nnunet_ext.networks.norm import InstanceNorm2d, InstanceNorm3d
from nnunet_ext.networks.topology import Topology
from tests.networks import plans

TWINS = {2: (InstanceNorm2d, nn.InstanceNorm2d), 3: (InstanceNorm3d, nn.InstanceNorm3d)}


def pair(dims, channels=6, *, affine=True, **options):
    """Ours and torch's with equal, random weights."""
    ours, torchs = (norm(channels, eps=1e-3, affine=affine, **options) for norm in TWINS[dims])
    for p in torchs.parameters():
        nn.init.normal_(p)
    ours.load_state_dict(torchs.state_dict())
    return ours, torchs


def maps(dims, channels=6, layout=torch.contiguous_format):
    x = 5 + torch.randn(2, channels, *(4, 5, 7)[:dims], generator=torch.Generator().manual_seed(0))
    return x.to(memory_format=layout).requires_grad_()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("dims", [2, 3])
def test_value_and_gradients_are_torchs(dims, affine, training):
    ours, torchs = pair(dims, affine=affine)
    found, expected = maps(dims), maps(dims)
    results = ours.train(training)(found), torchs.train(training)(expected)
    torch.testing.assert_close(*results, atol=1e-5, rtol=1e-5)
    for y in results:
        y.square().mul(torch.arange(y.shape[-1])).sum().backward()
    torch.testing.assert_close(found.grad, expected.grad, atol=1e-3, rtol=1e-4)
    for a, b in zip(ours.parameters(), torchs.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize(("dims", "layout"), [(2, torch.channels_last), (3, torch.channels_last_3d)])
def test_in_channels_last_value_gradient_and_layout_stay(dims, layout, affine):
    ours, torchs = pair(dims, affine=affine)
    found, expected = maps(dims, layout=layout), maps(dims)
    ours(found).square().sum().backward()
    torchs(expected).square().sum().backward()
    torch.testing.assert_close(found.grad, expected.grad, atol=1e-3, rtol=1e-4)
    with torch.no_grad():
        result = ours(found)
        torch.testing.assert_close(result, torchs(expected), atol=1e-5, rtol=1e-5)
    assert result.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("chunk", [1, 7, 50, 2**17])
@pytest.mark.parametrize("mean", [0.0, 100.0])
def test_the_size_of_the_chunks_does_not_matter(monkeypatch, chunk, mean):
    monkeypatch.setattr(norm, "CHUNK", chunk)
    ours, _ = pair(3)
    x = (maps(3, layout=torch.channels_last_3d) + mean).detach()
    with torch.no_grad():
        exact = ours(x.contiguous())
        torch.testing.assert_close(ours(x), exact, atol=1e-4, rtol=1e-4)


def test_millions_of_voxels_keep_their_digits():
    ours = InstanceNorm3d(2)
    x = 30 + torch.randn(1, 2, 100, 100, 100, generator=torch.Generator().manual_seed(0))
    variance, mean = torch.var_mean(x.double(), (2, 3, 4), correction=0, keepdim=True)
    exact = (x.double() - mean) / (variance + ours.eps).sqrt()
    with torch.no_grad():
        for layout in (torch.contiguous_format, torch.channels_last_3d):
            found = ours(x.contiguous(memory_format=layout))
            torch.testing.assert_close(found.double(), exact, atol=2e-5, rtol=0)


def test_the_input_is_overwritten_only_where_asked_and_only_without_a_graph():
    ours, _ = pair(3)
    x = maps(3, layout=torch.channels_last_3d)
    before = x.detach().clone()
    ours.requires_grad_(False)
    with torch.no_grad():
        kept = ours(x)
    assert torch.equal(x, before)
    ours(x, overwrite=True)
    assert torch.equal(x, before)
    with torch.no_grad():
        assert ours(x, overwrite=True) is x
    assert torch.equal(x, kept)


def test_half_precision_is_torchs():
    ours, torchs = (n.to(torch.bfloat16) for n in pair(3))
    x = maps(3, layout=torch.channels_last_3d).to(torch.bfloat16)
    with torch.no_grad():
        assert torch.equal(ours(x), torchs(x))


def test_state_dict_repr_copies_and_pickles_are_torchs():
    ours, torchs = pair(3)
    assert list(ours.state_dict()) == list(torchs.state_dict()) == ["weight", "bias"]
    assert repr(ours) == repr(torchs)
    twin = pickle.loads(pickle.dumps(copy.deepcopy(ours)))
    assert torch.equal(twin(maps(3)), ours(maps(3)))


def test_one_voxel_is_refused_as_by_torch():
    x = torch.zeros(2, 6, 1, 1, 1)
    for either in pair(3):
        with pytest.raises(ValueError, match="more than 1 spatial element"):
            either(x)


@pytest.mark.parametrize(
    "shape", [(6, 4, 5, 7), (6, 6, 4, 5, 7), (4, 5, 7), (2, 12, 4, 5, 7), (2, 3, 4, 5, 7)], ids=str
)
def test_maps_without_a_batch_and_other_channels_are_torchs(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    for affine in (True, False):
        found, expected = (result_or_error(module, x) for module in pair(3, affine=affine))
        assert type(found) is type(expected)
        if isinstance(found, torch.Tensor):
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def result_or_error(module, x):
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # other channels without weights are a warning of torch's
            return module(x)
    except (ValueError, RuntimeError) as error:
        return error


def test_running_statistics_are_torchs():
    ours, torchs = pair(3, track_running_stats=True)
    ours(maps(3)), torchs(maps(3))
    for training in (True, False):
        assert torch.equal(ours.train(training)(maps(3)), torchs.train(training)(maps(3)))
    assert torch.equal(ours.running_mean, torchs.running_mean)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_autocast_keeps_the_type(dtype):
    ours, torchs = pair(3)
    with torch.autocast("cpu", torch.bfloat16):
        x = maps(3).to(dtype)
        assert ours(x).dtype == torchs(x).dtype == dtype


def test_no_graph_break_when_compiled():
    ours, torchs = pair(3)
    compiled = torch.compile(ours, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(maps(3)), torchs(maps(3)), atol=1e-5, rtol=1e-5)


def test_the_form_follows_the_device():
    called = []

    class Recorder(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            called.append(str(func))
            return func(*args, **(kwargs or {}))

    ours, _ = pair(3)
    with Recorder(), torch.no_grad():
        ours(maps(3))
        assert any("group_norm" in name for name in called)
        called.clear()
        copy.deepcopy(ours).to("meta")(maps(3).to("meta"))
        assert not any("group_norm" in name for name in called)


@pytest.mark.parametrize("dims", [2, 3])
def test_every_normalisation_of_a_planned_network_is_ours(dims):
    spec, size = registry.find("DualBranchUNet_XS")
    network = plans.build(spec, plans.isotropic(dims), size=size)
    kinds = {type(m) for m in network.modules() if isinstance(m, nn.modules.instancenorm._InstanceNorm)}
    assert kinds == {TWINS[dims][0]}


def test_other_normalisations_stay():
    plan = {**plans.isotropic(2), "norm_op": "torch.nn.BatchNorm2d", "norm_op_kwargs": {}}
    assert type(Topology.from_plan(plan).norm(2)) is nn.BatchNorm2d
