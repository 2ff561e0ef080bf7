import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nnunet_ext.networks.layers import convolution
from nnunet_ext.networks.topology import WIDTH_CAP, Topology
from tests.networks import plans


@pytest.mark.parametrize("dims", [2, 3])
def test_a_plans_file_is_read(dims):
    plan = plans.isotropic(dims)
    topology = Topology.from_plan(plan, (32,) * dims)
    assert issubclass(topology.conv_op, nn.Conv3d if dims == 3 else nn.Conv2d)
    assert topology.dims == dims
    assert topology.n_stages == plans.STAGES
    assert topology.strides[1] == (2,) * dims
    assert topology.norm(4).eps == 1e-5
    assert topology.act().inplace
    assert topology.conv_bias


def test_classes_and_single_numbers_mean_the_same():
    plan = plans.isotropic(3)
    short = {**plan, "conv_op": nn.Conv3d, "norm_op": nn.InstanceNorm3d, "nonlin": nn.LeakyReLU}
    short |= {"strides": [1, 2, 2, 2, 2], "kernel_sizes": [3] * 5}
    assert Topology.from_plan(short) == Topology.from_plan(plan)


def test_absent_keyword_arguments_are_none_given():
    topology = Topology.from_plan({**plans.isotropic(3), "norm_op_kwargs": None, "nonlin_kwargs": None})
    assert isinstance(topology.norm(2), nn.InstanceNorm3d)


def test_an_unknown_key_is_refused_with_the_legal_ones():
    with pytest.raises(ValueError, match=r"unknown keys \['n_heads'\].*'kernel_sizes'"):
        Topology.from_plan({**plans.isotropic(3), "n_heads": 4})


@pytest.mark.parametrize("key", ["strides", "kernel_sizes"])
def test_one_entry_a_stage(key):
    plan = plans.isotropic(3)
    with pytest.raises(ValueError, match=f"4 {key} for 5 stages"):
        Topology.from_plan({**plan, key: plan[key][1:]})


@pytest.mark.parametrize("key", ["strides", "kernel_sizes"])
def test_one_number_an_axis(key):
    with pytest.raises(ValueError, match=f"{key} .* must have 2 entries"):
        Topology.from_plan({**plans.isotropic(2), key: plans.isotropic(3)[key]})


def test_a_patch_that_the_strides_do_not_divide_is_answered_with_the_next_one():
    with pytest.raises(ValueError, match=r"\[16, 16, 16\]; the next legal patch is \[32, 16, 48\]"):
        Topology.from_plan(plans.isotropic(3), (17, 3, 40))


def test_a_patch_that_ends_in_one_voxel_is_refused():
    with pytest.raises(ValueError, match=r"at least \[32, 16, 16\]"):
        Topology.from_plan(plans.isotropic(3), (16, 16, 16))
    assert Topology.from_plan(plans.isotropic(3), (32, 16, 16)).patch_size == (32, 16, 16)


def test_reduction_counts_each_axis():
    topology = Topology.from_plan(*plans.thick_slices(3))
    assert [topology.reduction(i) for i in range(5)] == [(1, 1, 1), (1, 2, 2), (2, 4, 4), (4, 8, 8), (8, 16, 16)]


@given(st.integers(1, 64), st.integers(1, 8))
def test_widths_double_up_to_ten_times_the_first(first, stages):
    widths = Topology.from_plan(plans.isotropic(3, stages)).widths(first)
    assert widths == [w if w < WIDTH_CAP * first else WIDTH_CAP * first for w in (first * 2**i for i in range(stages))]


@given(
    kernel=st.lists(st.sampled_from((1, 3, 5)), min_size=2, max_size=2),
    stride=st.lists(st.sampled_from((1, 2)), min_size=2, max_size=2),
    dilation=st.integers(1, 5),
    cells=st.lists(st.integers(1, 4), min_size=2, max_size=2),
)
def test_a_convolution_divides_the_size_by_its_stride(kernel, stride, dilation, cells):
    topology = Topology.from_plan(plans.isotropic(2))
    size = [n * s for n, s in zip(cells, stride, strict=True)]
    layer = convolution(topology, 2, 4, kernel, stride=stride, dilation=dilation, groups=2)
    assert layer(torch.zeros(1, 2, *size)).shape == (1, 4, *cells)


def test_the_widths_are_nnunets():
    assert Topology.from_plan(plans.isotropic(3, 7)).widths(32) == [32, 64, 128, 256, 320, 320, 320]
