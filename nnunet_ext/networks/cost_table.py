"""Parameters and MACs of every network on the stock BraTS plan, from the table that ``make tables`` writes.

Reading it imports no torch.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from nnunet_ext.networks.registry import PREFIX, default_size, specs
from nnunet_ext.networks.spec import NetworkSpec

TABLE = "table.json"


@dataclass(frozen=True)
class NetworkCost:
    """One network in one size: ``macs`` of one forward pass without deep supervision, at batch 1."""

    network: str
    size: str
    trainer: str
    input_shape: tuple[int, ...]
    outputs: int
    parameters: int
    macs: int


@cache
def rows() -> Mapping[tuple[str, str], NetworkCost]:
    """(registry name, size) -> cost, in the order of the zoo."""
    text = files("nnunet_ext.networks").joinpath(TABLE).read_text(encoding="utf-8")
    costs = [NetworkCost(**{**row, "input_shape": tuple(row["input_shape"])}) for row in json.loads(text)]
    return {(cost.network, cost.size): cost for cost in costs}


def trainer_name(spec: NetworkSpec, size: str) -> str:
    """The trainer of a size, without the suffix where it is the default."""
    return PREFIX + spec.trainer + ("" if size == default_size(spec) else f"_{size}")


def markdown() -> str:
    """The table of docs/zoo.md: one row a network, with parameters and GMACs of its default size."""
    lines = [
        "| trainer | what it is | parameters (M) | GMACs | paper |",
        "|---|---|---:|---:|---|",
    ]
    for spec in specs():
        size = default_size(spec) or spec.sizes[0]
        cost = rows()[spec.name, size]
        papers = "; ".join(f"[{text}]({link})" for text, link in spec.paper)
        lines.append(
            f"| `{trainer_name(spec, size)}` | {spec.description} | {cost.parameters / 1e6:.2f} "
            f"| {cost.macs / 1e9:.1f} | {papers} |"
        )
    return "\n".join(lines)
