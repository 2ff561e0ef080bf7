"""What networks are made of: the accounting by hand, the rule for light networks, the table in the document."""

import json
from dataclasses import asdict
from functools import cache

import pytest
import torch
from torch import nn

from benchmarks import shares
from benchmarks.shares import Amount
from nnunet_ext.networks import registry
from nnunet_ext.networks.backbones.mobilevit import MobileViTBlock
from tests.networks.oracles import operators

SPECS = registry.specs()
# rows that are named after a light block
LIGHT = {
    *("DualBranchRepLK", "DualBranchRepLKFFN2", "DualBranchRepLKMViT45", "DualBranchRepLKMViT5", "DualBranchMViT"),
    *("DualBranchMobileNetV2", "DualBranchMobileNetV2Dilated", "DualBranchMobileNetV2DilatedFixed"),
    *("DualBranchGhost", "DualBranchConvNeXt", "DualBranchShuffleV1"),
    *("DualBranchShuffleV2", "DualBranchShuffleV2Dilated", "DualBranchShuffleV2LK"),
}


@cache
def measured(name, size):
    return shares.measure(spec_of(name), size)


def spec_of(name):
    return next(spec for spec in registry.specs() if spec.name == name)


class Light(nn.Sequential):
    """Entry: 2 * 3 weights without overlap; block: depthwise 27 * 3, pointwise 9."""

    def __init__(self):
        super().__init__()
        self.entry = nn.Conv2d(2, 3, 1, 2, bias=False)
        self.block = nn.Conv2d(3, 3, 3, padding=1, groups=3, bias=False)
        self.wide = nn.Conv2d(3, 3, (1, 3), padding=(0, 1), bias=False)

    paper_blocks = (nn.Conv2d,)


class Fused(nn.Module):
    """A decoder's convolution whose kernel is used by its parent, as our fusions and large kernels do."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, 1, 1, bias=False)

    def forward(self, x):
        return nn.functional.conv2d(x, self.conv.weight)


class Small(nn.Module):
    """Two stages in one branch, a fusion of the first, a decoder."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Module()
        stem = nn.Conv2d(1, 2, 3, padding=1, bias=False)
        self.encoder.branches = nn.ModuleList([nn.ModuleList([stem, Light()])])
        self.encoder.fusions = nn.ModuleList([Fused(2), Fused(3)])
        self.encoder.trunk = nn.ModuleList([Light()])
        self.encoder.trunk[0].entry = nn.Conv2d(1, 3, 1, 2, bias=False)
        self.decoder = nn.Conv2d(3, 1, 3, padding=1, bias=False)

    def forward(self, x):
        first, second = self.encoder.branches[0]
        x = first(x)
        self.encoder.fusions[0](x)
        return self.decoder(self.encoder.trunk[0](self.encoder.fusions[1](second(x))))


@pytest.fixture(scope="module")
def counted():
    with torch.device("meta"):
        return shares.Counted(Small(), (1, 8, 8))


def test_every_parameter_and_product_is_in_one_part(counted):
    # maps of 8 x 8, 4 x 4 and 2 x 2 voxels
    assert counted.parts() == {
        "first stage": Amount(18, 18 * 64),
        "stage entries": Amount(6 + 3, 6 * 16 + 3 * 4),
        "stages": Amount(27 + 27 + 27 + 27, (27 + 27) * 16 + (27 + 27) * 4),
        "fusion": Amount(2 + 3, 2 * 64 + 3 * 16),
        "decoder": Amount(27, 27 * 4),
    }


def test_dense_convolutions_beyond_a_voxel_are_counted_from_stage_2_on(counted):
    stages, encoder = shares.light_encoder(counted.network)
    assert stages == ["encoder.branches.0.1", "encoder.trunk.0"]
    assert encoder == [*stages, "encoder.fusions.1"]
    assert counted.within(encoder) == Amount(60 + 57 + 3, 60 * 16 + 57 * 4 + 3 * 16)
    assert counted.within(shares.dense(counted.network, encoder)) == Amount(27 + 27, 27 * 16 + 27 * 4)
    assert shares.paper_blocks(counted.network.encoder.trunk[0]) == 3


def test_where_a_branch_is_plain_the_encoder_is_the_others(counted):
    network = Small()
    network.encoder.branches.append(nn.ModuleList([nn.Conv2d(1, 2, 3)]))
    assert shares.light_encoder(network)[1] == ["encoder.branches.0.1", "encoder.trunk.0"]


def test_mobilevits_own_convolutions_are_its_block():
    network = nn.Module()
    network.stage = nn.Sequential(nn.Conv2d(8, 8, 3), MobileViTBlock(operators(), 8, (3, 3), dim=8))
    assert shares.dense(network, ["stage"]) == ["stage.0"]


@pytest.mark.parametrize("spec", [s for s in SPECS if s.trainer in LIGHT], ids=lambda s: s.trainer)
def test_a_light_network_is_made_of_its_blocks_at_every_size(spec):
    for size in spec.sizes:
        found = measured(spec.name, size)
        assert max(found.dense.of(found.light)) <= shares.LIMIT
        assert found.blocks >= shares.BLOCKS_PER_STAGE


def test_no_light_stage_is_left_out_of_the_rule():
    rows = json.loads(shares.RESULT.read_text(encoding="utf-8"))["rows"]
    assert {spec_of(row["network"]).trainer for row in rows if row["light"]} == LIGHT


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.name)
def test_the_file_tells_what_the_built_networks_are_made_of(spec):
    rows = {row["network"]: row for row in json.loads(shares.RESULT.read_text(encoding="utf-8"))["rows"]}
    assert rows[spec.name] == asdict(measured(spec.name, rows[spec.name]["size"])), "run `make tables`"


def test_the_document_shows_the_file():
    rows = json.loads(shares.RESULT.read_text(encoding="utf-8"))["rows"]
    assert [row["network"] for row in rows] == [spec.name for spec in SPECS]
    assert shares.markdown(rows) in shares.DOCUMENT.read_text(encoding="utf-8"), "run `make tables`"
