import pytest
import torch
from monai.networks import nets

from nnunet_ext.networks import registry
from nnunet_ext.networks.unetr import UNETR
from tests.networks import monai, plans

SPEC = registry.find("UNETR")[0]
HIDDEN = 48


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("size", [(32, 32, 32), (64, 32, 48)])
def test_with_monais_weights_it_gives_monais_output(dims, size, oracle_record):
    size = size[:dims]
    oracle = nets.UNETR(
        monai.CHANNELS, monai.CLASSES, size, 4, hidden_size=HIDDEN, mlp_dim=4 * HIDDEN, spatial_dims=dims
    )
    ours = UNETR(monai.CHANNELS, monai.CLASSES, monai.topology(dims, 5, size), width=4, hidden=HIDDEN)
    monai.twin(oracle, ours)
    found = monai.outputs(ours, oracle, size)
    oracle_record("UNETR", "monai UNETR", f"whole network, {size}", *found, monai.TOLERANCE)


def test_size_m_has_the_parameters_of_the_paper():
    size = (96, 96, 96)
    with torch.device("meta"):
        oracle = nets.UNETR(4, 4, size)
        ours = UNETR(4, 4, monai.topology(3, 5, size), width=SPEC.widths["M"], **SPEC.size_options["M"])
    unused = sum(p.numel() for name, p in oracle.named_parameters() if "norm_cross_attn" in name)
    further_heads = sum(p.numel() for p in ours.decoder.seg_layers[:-1].parameters())
    count, expected = (sum(p.numel() for p in n.parameters()) for n in (ours, oracle))
    assert unused == 18_432
    assert count - further_heads == expected - unused


def test_the_position_table_is_stretched_over_another_size():
    network = UNETR(1, 2, monai.topology(2, 5, (32, 32)), width=4, hidden=HIDDEN).eval()
    table = torch.tensor([0.0, 1.0])
    network.encoder.position.data = table.expand(1, HIDDEN, 2, 2).clone()
    embedded = torch.zeros(1, HIDDEN, 4, 4)
    seen = []
    network.encoder.patch_embed.register_forward_hook(lambda *_: embedded)
    network.encoder.blocks[0].register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    with torch.no_grad():
        network(torch.zeros(1, 1, 64, 64))
    rows = seen[0][0, :, 0].reshape(4, 4)
    torch.testing.assert_close(rows, torch.tensor([0, 0.25, 0.75, 1]).expand(4, 4))


def test_without_a_known_patch_the_table_is_that_of_128():
    with torch.device("meta"):
        assert plans.build(SPEC, plans.isotropic(3)).encoder.position.shape[2:] == (8, 8, 8)


@pytest.mark.parametrize(("stages", "taps"), [(3, [6]), (4, [4, 8]), (5, [3, 6, 9]), (7, [3, 6, 9])])
def test_the_taps_divide_the_depth(stages, taps):
    with torch.device("meta"):
        assert plans.build(SPEC, plans.isotropic(2, stages)).encoder.taps == taps


def test_scales_below_the_transformers_are_interpolated():
    network = plans.build(SPEC, plans.isotropic(2, 7), (128, 128), deep_supervision=True).eval()
    with torch.no_grad():
        *_, above, lowest = network(plans.image((128, 128)))
    assert above.shape[2:] == (8, 8)
    # linear interpolation to half the size is the mean over each pair
    torch.testing.assert_close(lowest, torch.nn.functional.avg_pool2d(above, 2))
