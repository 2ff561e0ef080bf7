import pytest
import torch
from torch import nn

from nnunet_ext.networks import registry
from nnunet_ext.networks.encoder import BranchEncoder, Fusion, stages_for
from nnunet_ext.networks.spec import Stage
from nnunet_ext.networks.topology import Topology
from tests.networks import plans


@pytest.mark.parametrize("without_graph", [True, False])
@pytest.mark.parametrize("channels", [(4, 4), (2, 6, 1), (5,)], ids=str)
@pytest.mark.parametrize("dims", [2, 3])
def test_fusion_is_a_convolution_of_the_concatenated_maps(dims, channels, without_graph):
    fusion = Fusion(Topology.from_plan(plans.isotropic(dims)), sum(channels), 3)
    maps = [torch.randn(2, c, *(4, 3, 5)[:dims], requires_grad=True) for c in channels]
    twin = nn.Sequential(fusion.conv, fusion.norm, fusion.act)
    with torch.set_grad_enabled(not without_graph):
        found, expected = fusion(maps), twin(torch.cat(maps, 1))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    if without_graph:
        return
    leaves = [*maps, *fusion.parameters()]
    weights = torch.randn(found.shape)
    gradients = (torch.autograd.grad((y * weights).sum(), leaves) for y in (found, expected))
    for ours, twins in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, twins, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("named", "stages", "expected"),
    [("a", 3, "aaa"), ("ab", 4, "abbb"), ("abc", 3, "abc"), ("abcd", 3, "acd"), ("abc", 1, "a")],
)
def test_the_last_named_stage_repeats_and_of_too_many_the_first_and_the_last_count(named, stages, expected):
    assert "".join(s.path for s in stages_for([Stage(n) for n in named], stages)) == expected


def test_each_branch_reads_its_own_modalities_and_all_further_channels():
    spec, _ = registry.find("DualBranchStride")
    topology, trunk = Topology.from_plan(plans.isotropic(2)), spec.options["trunk"]
    encoder = BranchEncoder(6, topology, 8, branches=spec.branches, trunk=trunk, image_channels=4)
    numbered = torch.arange(6.0).view(1, 6, 1, 1).expand(1, 6, 2, 2)
    # T1, T1ce, T2, FLAIR and two that are no image's
    assert [maps[0, :, 0, 0].tolist() for maps in encoder.branch_inputs(numbered)] == [[1, 4, 5], [3, 4, 5]]
