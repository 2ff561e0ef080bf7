import pytest
import torch
from monai.networks import nets

from nnunet_ext.networks import registry, window_attention
from nnunet_ext.networks.interop import import_monai
from nnunet_ext.networks.swin_unetr import PatchMerging, SwinUNETR
from nnunet_ext.networks.window_attention import RecomputedAttention, attend, departition, partition, shifted_regions
from tests.networks import monai, plans

SPEC = registry.find("SwinUNETR")[0]


@pytest.mark.parametrize(("dims", "batch"), [(2, 2), (3, 1)])
def test_with_monais_weights_it_gives_monais_output(dims, batch, oracle_record):
    oracle = nets.SwinUNETR(monai.CHANNELS, monai.CLASSES, feature_size=12, spatial_dims=dims)
    ours = SwinUNETR(monai.CHANNELS, monai.CLASSES, monai.topology(dims, 6), width=12)
    monai.twin(oracle, ours)
    for size in ((64, 64, 32), (32, 96, 32)):
        found = monai.outputs(ours, oracle, size[:dims], batch)
        oracle_record("SwinUNETR", "monai SwinUNETR", f"whole network, {size[:dims]}", *found, monai.TOLERANCE)


def test_a_plan_with_fewer_stages_takes_monais_upper_levels():
    oracle = nets.SwinUNETR(monai.CHANNELS, monai.CLASSES, feature_size=12, spatial_dims=2)
    ours = SwinUNETR(monai.CHANNELS, monai.CLASSES, monai.topology(2, 5), width=12)
    imported = import_monai(ours, oracle.state_dict())
    assert set(imported.shape_differs) == {f"encoder.skips.4.conv{i}.conv.weight" for i in (1, 2)}
    assert {name.split(".")[0] for name in imported.unused} == {"swinViT", "encoder4", "decoder5"}
    assert torch.equal(
        imported.weights["decoder.stages.0.conv1.conv.weight"], oracle.decoder4.conv_block.conv1.conv.weight
    )
    assert torch.equal(
        imported.weights["encoder.stages.2.merging.norm.bias"], oracle.swinViT.layers3[0].downsample.norm.bias
    )


def test_it_has_the_parameters_of_monais():
    with torch.device("meta"):
        network = SwinUNETR(1, 1, monai.topology(3, 6), width=48)
    further_heads = network.decoder.seg_layers[:-1]
    count = sum(p.numel() for p in network.parameters()) - sum(p.numel() for p in further_heads.parameters())
    assert count == 62_186_659


def attention_arguments(windows, shifted, dtype=torch.float64):
    generator = torch.Generator().manual_seed(3)
    heads, tokens, channels = 2, 12, 4
    qkv = [torch.randn((windows, heads, tokens, channels), generator=generator, dtype=dtype) for _ in range(3)]
    bias = torch.randn((heads, tokens, tokens), generator=generator, dtype=dtype)
    regions = torch.randint(0, 3, (windows, tokens), generator=generator) if shifted else None
    return [t.requires_grad_() for t in (*qkv, bias)], regions


def written_out(q, k, v, bias, regions):
    """The slow, obvious form: the whole matrix, each term in its own line."""
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    scores = scores + bias
    if regions is not None:
        scores = scores.masked_fill((regions[:, :, None] != regions[:, None, :])[:, None], -torch.inf)
    return scores.softmax(-1) @ v


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("windows", [1, 5])
def test_recomputed_attention_is_the_written_out_one(shifted, windows, monkeypatch):
    monkeypatch.setattr(window_attention, "CPU_CHUNK", 2 * 2 * 12 * 12)  # two windows at a time
    leaves, regions = attention_arguments(windows, shifted)
    upstream = torch.randn_like(leaves[0])
    found = RecomputedAttention.apply(*leaves, regions)
    expected = written_out(*leaves, regions)
    torch.testing.assert_close(found, expected)
    for mine, theirs in zip(
        torch.autograd.grad(found, leaves, upstream), torch.autograd.grad(expected, leaves, upstream), strict=True
    ):
        torch.testing.assert_close(mine, theirs)


def test_nothing_of_the_size_of_the_attention_matrix_is_kept():
    kept = []
    leaves, regions = attention_arguments(windows=50, shifted=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        RecomputedAttention.apply(*leaves, regions)
    assert max(kept) == leaves[0].numel() < 50 * 2 * 12 * 12


def test_masked_tokens_leave_no_subnormal_weights():
    (q, k, _, bias), _ = attention_arguments(1, shifted=False, dtype=torch.float32)
    regions = torch.zeros(1, 12, dtype=torch.long)
    regions[:, 6:] = 1
    weights = attend(q, k, torch.eye(12).expand(1, 2, 12, 12), bias, regions)
    assert torch.equal(weights[..., :6, 6:], torch.zeros(1, 2, 6, 6))


@pytest.mark.parametrize("window", [(2, 3), (2, 3, 1), (4, 2, 2)])
def test_windows_come_back_where_they_were(window):
    size = [2 * w for w in window]
    x = torch.randn(2, *size, 5)
    windows = partition(x, window)
    assert torch.equal(departition(windows, window, size), x)
    corner = x[(0, *(slice(w) for w in window))]
    assert torch.equal(windows[0], corner.reshape(-1, 5))


def test_regions_part_what_the_shift_joined():
    # a row of 6 in windows of 3, rolled by -1: 1 2 3 | 4 5 0; 0 is no neighbour of 4 and 5
    regions = shifted_regions((6,), (3,), (1,), torch.device("cpu"))
    same = regions[:, :, None] == regions[:, None, :]
    assert same[0].all()
    assert same[1].tolist() == [[True, True, False], [True, True, False], [False, False, True]]


def test_merging_keeps_axes_of_stride_one():
    merging = PatchMerging(2, (1, 2, 2))
    assert merging.offsets == [(0, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1)]
    assert merging(torch.randn(1, 3, 4, 6, 2)).shape == (1, 3, 2, 3, 4)


def test_a_plan_of_two_stages_is_refused():
    with pytest.raises(ValueError, match="at least 3 stages"):
        plans.build(SPEC, plans.isotropic(3, 2))


def test_the_plan_of_brats_with_a_short_last_axis():
    strides = [[1, 1, 1]] + [[2, 2, 2]] * 4 + [[2, 2, 1]]
    patch = (128, 160, 112)
    with torch.device("meta"):
        network = plans.build(SPEC, plans.architecture(strides), patch, deep_supervision=True)
        found = network(torch.empty(1, plans.CHANNELS, *patch))
    assert [tuple(o.shape[2:]) for o in found] == [tuple(s // 2**i for s in patch) for i in range(5)]
