import copy
import pickle

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from nnunet_ext.networks.by_device import CHANNELS_LAST
from nnunet_ext.networks.conv import Conv2d, Conv3d
from nnunet_ext.networks.topology import Topology
from tests.networks import plans

TWINS = {2: (Conv2d, nn.Conv2d), 3: (Conv3d, nn.Conv3d)}
KINDS = {
    "dense": {"kernel_size": 3, "padding": 1},
    "strided": {"kernel_size": 3, "padding": 1, "stride": 2},
    "depthwise": {"kernel_size": 3, "padding": 1, "groups": 6},
    "dilated": {"kernel_size": 3, "padding": 2, "dilation": 2},
    "pointwise": {"kernel_size": 1},
    "pointwise grouped": {"kernel_size": 1, "groups": 3},
    "pointwise strided": {"kernel_size": 1, "stride": 2},
    "patches": {"kernel_size": 2, "stride": 2},
}
CASES = [
    (channels, kind)
    for kind, options in KINDS.items()
    for channels in (6, 1)
    if channels % options.get("groups", 1) == 0
]


def pair(dims, channels, *, bias=True, **options):
    """Ours and torch's with equal weights; they are random by default."""
    ours, torchs = (conv(channels, 12, bias=bias, **options) for conv in TWINS[dims])
    ours.load_state_dict(torchs.state_dict())
    return ours, torchs


def maps(dims, channels):
    return torch.randn(2, channels, *(4, 6, 8)[:dims], generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("channels", "kind"), CASES)
@pytest.mark.parametrize("dims", [2, 3])
def test_value_is_torchs_and_the_layout_channels_last(dims, channels, kind, bias):
    ours, torchs = pair(dims, channels, bias=bias, **KINDS[kind])
    with torch.no_grad():
        found, expected = ours(maps(dims, channels)), torchs(maps(dims, channels))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    # for few voxels torch takes other forms of some kinds
    assert "grouped" in kind or found.is_contiguous(memory_format=CHANNELS_LAST[dims + 2])


@pytest.mark.parametrize(("kernel", "stride"), [((1, 3, 5), (1, 1, 2)), ((1, 3, 3), (2, 2, 1)), ((3, 1, 1), (2, 1, 2))])
def test_one_channel_under_a_kernel_that_differs_by_axis(kernel, stride):
    padding = tuple(k // 2 for k in kernel)
    ours, torchs = pair(3, 1, kernel_size=kernel, stride=stride, padding=padding)
    with torch.no_grad():
        found, expected = ours(maps(3, 1)), torchs(maps(3, 1))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert found.is_contiguous(memory_format=CHANNELS_LAST[5])


@pytest.mark.parametrize(("channels", "kind"), CASES)
def test_in_training_it_is_torchs(channels, kind):
    ours, torchs = pair(3, channels, **KINDS[kind])
    results = ours(maps(3, channels)), torchs(maps(3, channels))
    assert torch.equal(*results)
    assert results[0].is_contiguous()


def test_half_of_a_kernel_reads_half_of_the_channels():
    ours, _ = pair(3, 6, kernel_size=1)
    x = maps(3, 6)
    first, second = ours.weight.split([1, 5], 1)
    with torch.no_grad():
        halves = ours.convolve(x[:, :1], first, ours.bias) + ours.convolve(x[:, 1:], second, None)
        torch.testing.assert_close(halves, ours(x), atol=1e-5, rtol=1e-5)


def test_state_dict_repr_copies_and_pickles_are_torchs():
    ours, torchs = pair(3, 6, kernel_size=3)
    assert list(ours.state_dict()) == list(torchs.state_dict()) == ["weight", "bias"]
    assert repr(ours) == repr(torchs)
    assert torch.equal(pickle.loads(pickle.dumps(copy.deepcopy(ours)))(maps(3, 6)), ours(maps(3, 6)))


@pytest.mark.parametrize("kind", ["dense", "pointwise"])
def test_no_graph_break_when_compiled(kind):
    ours, torchs = pair(3, 6, **KINDS[kind])
    compiled = torch.compile(ours, backend="eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(maps(3, 6)), torchs(maps(3, 6)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
def test_planned_convolutions_are_ours(dims):
    assert Topology.from_plan(plans.isotropic(dims)).conv_op is TWINS[dims][0]


def results(dims, shape, options):
    """Of ours and of torch's convolution with equal weights: maps, or the error's class."""
    ours, torchs = pair(dims, options["in_channels"], **{k: v for k, v in options.items() if k != "in_channels"})
    x, found = torch.randn(shape, generator=torch.Generator().manual_seed(0)), []
    for module in (ours, torchs):
        try:
            with torch.no_grad():
                found.append(module(x))
        except (RuntimeError, ValueError) as error:
            found.append(type(error))
    return found


@st.composite
def settings_of_a_convolution(draw):
    dims, groups = draw(st.sampled_from([2, 3])), draw(st.sampled_from([1, 1, 2, 3]))

    def axes(values):
        return draw(
            st.one_of(st.sampled_from(values).map(lambda v: (v,) * dims), st.tuples(*[st.sampled_from(values)] * dims))
        )

    options = {
        "in_channels": groups * draw(st.integers(1, 2)),
        "kernel_size": axes([1, 2, 3]),
        "dilation": axes([1, 2]),
        "groups": groups,
        "bias": draw(st.booleans()),
        "padding": draw(st.sampled_from(["same", "valid", None])) or axes([0, 1, 2]),
        "padding_mode": draw(st.sampled_from(["zeros", "replicate", "reflect", "circular"])),
        "stride": 1,
    }
    if options["padding"] != "same":
        options["stride"] = axes([1, 2])
    batch = draw(st.sampled_from([(), (1,), (2,)]))
    channels = draw(st.sampled_from([options["in_channels"]] * 3 + [1, 3]))
    return dims, (*batch, channels, *draw(st.tuples(*[st.integers(3, 6)] * dims))), options


@settings(max_examples=300)
@given(settings_of_a_convolution())
@example((3, (1, 4, 5, 5, 5), {"in_channels": 4, "kernel_size": 1, "padding": 1}))
@example((3, (1, 1, 5, 5, 5), {"in_channels": 1, "kernel_size": 3, "padding": 1, "padding_mode": "replicate"}))
@example((3, (1, 1, 5, 5, 5), {"in_channels": 1, "kernel_size": 3, "padding": "same"}))
@example((3, (4, 5, 5, 5), {"in_channels": 4, "kernel_size": 1}))
@example((3, (1, 1, 5, 5, 5), {"in_channels": 3, "kernel_size": 3, "groups": 3}))
def test_every_setting_gives_what_torch_gives(setting):
    found, expected = results(*setting)
    if isinstance(expected, type):
        assert found is expected
    else:
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
