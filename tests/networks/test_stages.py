"""The 3D form of every convolutional stage of the zoo: inflated from its 2D form, and alike along all axes."""

import pytest
import torch

from nnunet_ext.networks import registry
from nnunet_ext.networks.encoder import stage_factory
from tests.networks.oracles import copy_permuted, copy_weights, maps, permuted, randomise, slicewise, stage_plan

IN, OUT = 8, 16
# attention reaches across slices: these have laws of their own in their tests
ATTENTION = ("mobilevit",)


def convolutional_stages():
    """Every kind of stage that a declaration names: name -> stage."""
    named = [
        stage
        for spec in registry.specs()
        for stages in (spec.options.get("trunk", ()), *(b.stages for b in spec.branches))
        for stage in stages
        if not any(word in stage.path for word in ATTENTION)
    ]
    return {f"{s.path.split('.')[-1]} {dict(s.options) or ''}".strip(): s for s in named}


STAGES = convolutional_stages()


@pytest.fixture(params=STAGES.values(), ids=STAGES)
def make(request):
    """(plan, out_channels) -> the stage."""
    return lambda plan, out_channels=OUT: stage_factory(request.param)(IN, out_channels, plan)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("out_channels", [IN, OUT])
@pytest.mark.parametrize("index", [0, 1, 2])
def test_flat_kernels_see_each_slice_by_itself(make, stride, out_channels, index):
    flat = randomise(make(stage_plan((3, 3), (stride, stride), index=index), out_channels))
    solid = make(stage_plan((1, 3, 3), (1, stride, stride), index=index), out_channels)
    copy_weights(solid, flat)
    x = maps(2, IN, 3, 8, 12)
    found, expected = solid(x), slicewise(flat, x)
    assert found.shape == (2, out_channels, 3, 8 // stride, 12 // stride)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("axes", [(1, 2, 0), (2, 1, 0)], ids=str)
@pytest.mark.parametrize(("kernel", "stride"), [((3, 3, 3), (2, 2, 2)), ((1, 3, 3), (1, 2, 2)), ((3, 3, 3), (2, 1, 2))])
def test_permuted_kernels_see_permuted_maps(make, kernel, stride, axes):
    straight = randomise(make(stage_plan(kernel, stride)))
    turned = make(stage_plan([kernel[a] for a in axes], [stride[a] for a in axes]))
    copy_permuted(turned, straight, axes)
    x = maps(2, IN, 4, 6, 8)
    assert (turned(permuted(x, axes)) - permuted(straight(x), axes)).abs().max() <= 1e-5
