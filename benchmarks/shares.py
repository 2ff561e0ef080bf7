"""What a network's parameters and MACs are spent on, part by part: ``docs/networks.md`` and a file of results.

    python benchmarks/shares.py

A network that is named after a light block should be made of it. From stage 2 on, the convolutions of its encoder that
are dense (one group) and look at more than a voxel hold at most a quarter of that encoder's parameters and MACs; those
inside a MobileViT block are the paper's own and count as the block. Where only some branches are made of light blocks
(DualBranchRepLK and its relatives: FLAIR, and the trunk if it is MobileViT), the encoder is these.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a script's own package is not on the path

from benchmarks import documents, record  # noqa: E402 - needs the path above
from benchmarks.costs.models import topology  # noqa: E402 - see above
from nnunet_ext.networks import registry  # noqa: E402 - see above
from nnunet_ext.networks.backbones.mobilevit import MobileViTBlock  # noqa: E402 - see above
from nnunet_ext.networks.spec import NetworkSpec  # noqa: E402 - see above
from nnunet_ext.networks.stock_plan import INPUT_CHANNELS, OUTPUT_CHANNELS, PATCHES, stock_plan  # noqa: E402 - see above

RESULT = ROOT / "benchmarks" / "results" / "shares.json"
DOCUMENT = ROOT / "docs" / "networks.md"
LIMIT = 0.25
BLOCKS_PER_STAGE = 2
PARTS = ("first stage", "stage entries", "stages", "fusion", "decoder")


@dataclass(frozen=True)
class Amount:
    """Parameters, and MACs of one forward pass."""

    parameters: int = 0
    macs: int = 0

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(self.parameters + other.parameters, self.macs + other.macs)

    def of(self, whole: "Amount") -> tuple[float, float]:
        """Shares of the whole: of parameters, of MACs."""
        return self.parameters / whole.parameters, self.macs / whole.macs


@dataclass(frozen=True)
class Shares:
    """One network in one size.

    Attributes:
        parts: name of a part -> what it holds; together they are the network.
        light: what the encoder of light blocks holds from stage 2 on; None for a network without one.
        dense: what its dense convolutions with kernels beyond one voxel hold of it.
        blocks: the smallest number of the paper's blocks in one of its stages.
    """

    network: str
    size: str
    parts: Mapping[str, Amount]
    light: Amount | None = None
    dense: Amount | None = None
    blocks: int | None = None


class Counted:
    """A network on the meta device, and the MACs of its modules in one forward pass."""

    def __init__(self, network: nn.Module, shape: Sequence[int]) -> None:
        self.network = network.eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(torch.empty(1, *shape, device="meta"))
        root = type(network).__name__
        # the counter gives two operations for each multiply-accumulate
        counts = {name: sum(of.values()) // 2 for name, of in counter.get_flop_counts().items()}
        self.macs = {name.removeprefix(f"{root}."): n for name, n in counts.items() if name.startswith(f"{root}.")}

    def within(self, names: Sequence[str]) -> Amount:
        """What these modules hold, none of which is inside another."""
        modules = [self.network.get_submodule(name) for name in names]
        parameters = sum(p.numel() for m in modules for p in m.parameters())
        return Amount(parameters, sum(self.macs.get(name, 0) for name in names))

    def parts(self) -> dict[str, Amount]:
        """Every parameter and every MAC of the network, by :func:`part_of`."""
        single = not len(getattr(self.network.encoder, "branches", ()))
        found = {part: Amount() for part in PARTS}
        for name, parameter in self.network.named_parameters():
            found[part_of(name, single)] += Amount(parameters=parameter.numel())
        for name, macs in self.macs.items():
            inside = sum(n for other, n in self.macs.items() if other.rpartition(".")[0] == name)
            # lists of modules compute nothing themselves, so what is in them has no parent here
            found[part_of(name, single)] += Amount(macs=macs - inside)
        return found


def part_of(name: str, single: bool) -> str:
    """The part that a module or parameter belongs to, by its name; ``single`` for a network without branches."""
    half, *words = name.split(".")
    if half == "decoder":
        return "decoder"
    if words and words[0] in ("fusions", "gates"):
        return "fusion"
    if (single and words[:2] in (["trunk", "0"], ["stages", "0"])) or (words[:1] == ["branches"] and words[2] == "0"):
        return "first stage"
    return "stage entries" if "entry" in words else "stages"


def light_encoder(network: Any) -> tuple[list[str], list[str]]:
    """Names of the stages made of a paper's light blocks, and of all parts of the encoder that they make up.

    The fusions from stage 2 on belong to it if all branches are of such stages.
    """
    encoder = network.encoder
    lists = {f"encoder.branches.{i}": b for i, b in enumerate(getattr(encoder, "branches", ()))}
    lists |= {"encoder.trunk": encoder.trunk} if hasattr(encoder, "trunk") else {}
    stages = [f"{at}.{i}" for at, of in lists.items() for i, stage in enumerate(of) if hasattr(stage, "paper_blocks")]
    made_of = [at for at in lists if any(stage.startswith(f"{at}.") for stage in stages)]
    whole = len(made_of) == len(lists)
    return stages, stages + [f"encoder.fusions.{i}" for i in range(1, len(encoder.fusions)) if whole] if stages else []


def dense(network: nn.Module, names: Sequence[str]) -> list[str]:
    """Names of the dense convolutions beyond one voxel in these modules, those of MobileViT's blocks left out."""
    spared = [name for name, module in network.named_modules() if isinstance(module, MobileViTBlock)]
    return [
        name
        for name, module in network.named_modules()
        if isinstance(module, _ConvNd)
        and module.groups == 1
        and prod(module.kernel_size) > 1
        and any(name.startswith(f"{at}.") for at in names)
        and not any(name.startswith(f"{at}.") for at in spared)
    ]


def measure(spec: NetworkSpec, size: str) -> Shares:
    """Builds one network for the input of the cost tables and counts."""
    dims = max(spec.dimensions)
    shape = (spec.channels(INPUT_CHANNELS), *(spec.shown_size or PATCHES[dims]))
    plan = topology(spec.shown_size) if spec.shown_size else stock_plan(dims)
    with torch.device("meta"):
        network = registry.build(
            spec,
            shape[0],
            spec.outputs(OUTPUT_CHANNELS),
            plan,
            size=size,
            image_channels=INPUT_CHANNELS,
            patch_size=shape[1:],
        )
        counted = Counted(network, shape)
    stages, encoder = light_encoder(network)
    if not stages:
        return Shares(spec.name, size, counted.parts())
    blocks = min(paper_blocks(network.get_submodule(name)) for name in stages)
    light = counted.within(encoder)
    return Shares(spec.name, size, counted.parts(), light, counted.within(dense(network, encoder)), blocks)


def paper_blocks(stage: Any) -> int:
    """How many of the paper's blocks a light stage has."""
    return sum(isinstance(module, stage.paper_blocks) for module in stage.modules())


def percent(numbers: tuple[float, float]) -> str:
    """Two shares for a cell of the table."""
    return " / ".join(f"{100 * n:.1f}" for n in numbers)


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table of docs/networks.md, from the rows of the file."""
    header = ["network", *PARTS, "dense in the light encoder", "blocks a stage"]
    lines = [f"| {' | '.join(header)} |", f"|---|{'---:|' * (len(header) - 1)}"]
    for row in rows:
        parts = {name: Amount(**amount) for name, amount in row["parts"].items()}
        whole = sum(parts.values(), Amount())
        cells = [percent(parts[name].of(whole)) if parts[name] != Amount() else "" for name in PARTS]
        if row["light"]:
            cells += [percent(Amount(**row["dense"]).of(Amount(**row["light"]))), str(row["blocks"])]
        else:
            cells += ["", ""]
        lines.append(f"| {row['network']} {row['size']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def records() -> list[dict[str, Any]]:
    """The default size of every network."""
    return [asdict(measure(spec, registry.default_size(spec) or spec.sizes[0])) for spec in registry.specs()]


def main() -> None:
    """The command."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    record.write_json(RESULT, records())
    table = markdown(json.loads(RESULT.read_text(encoding="utf-8"))["rows"])
    text = documents.put(DOCUMENT.read_text(encoding="utf-8"), "shares", table)
    DOCUMENT.write_text(text, encoding="utf-8")
    print(table)


if __name__ == "__main__":
    main()
