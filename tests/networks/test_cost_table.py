"""The committed table of parameters and MACs, and docs/zoo.md made from it, against the networks as they are now."""

from pathlib import Path

import pytest

from benchmarks.tables import measure
from nnunet_ext.networks import cost_table
from nnunet_ext.networks.registry import specs

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("spec", specs(), ids=lambda spec: spec.name)
def test_the_table_tells_what_the_built_networks_cost(spec):
    for size in spec.sizes:
        assert cost_table.rows()[spec.name, size] == measure(spec, size), "run `make tables`"


def test_the_table_has_a_row_for_every_network_and_size_and_no_other():
    assert list(cost_table.rows()) == [(spec.name, size) for spec in specs() for size in spec.sizes]


def test_the_document_shows_the_table():
    text = (ROOT / "docs" / "zoo.md").read_text(encoding="utf-8")
    assert f"<!-- networks -->\n{cost_table.markdown()}\n<!-- /networks -->" in text, "run `make tables`"
