"""Write the tables of networks: ``nnunet_ext/networks/table.json`` from built networks, and docs/zoo.md from it.

The tables of docs/trainers.md come from the declared recipes.

    python benchmarks/tables.py

Networks are built on the meta device, so the largest one costs neither memory nor time.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a script's own package is not on the path

from benchmarks.costs.models import topology  # noqa: E402 - needs the path above
from nnunet_ext.networks import cost_table, registry  # noqa: E402 - see above
from nnunet_ext.networks.cost_table import NetworkCost  # noqa: E402 - see above
from nnunet_ext.networks.spec import NetworkSpec  # noqa: E402 - see above
from nnunet_ext.networks.stock_plan import INPUT_CHANNELS, OUTPUT_CHANNELS, PATCHES, stock_plan  # noqa: E402 - see above
from nnunet_ext.trainers import catalogue  # noqa: E402 - see above


def measure(spec: NetworkSpec, size: str) -> NetworkCost:
    """Builds one network on the meta device and counts its parameters and MACs."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    dims = max(spec.dimensions)
    shape = (spec.channels(INPUT_CHANNELS), *(spec.shown_size or PATCHES[dims]))
    outputs = spec.outputs(OUTPUT_CHANNELS)
    plan = topology(spec.shown_size) if spec.shown_size else stock_plan(dims)
    with torch.device("meta"):
        network = registry.build(
            spec, shape[0], outputs, plan, size=size, image_channels=INPUT_CHANNELS, patch_size=shape[1:]
        ).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(torch.empty(1, *shape))
    parameters = sum(p.numel() for p in network.parameters())
    trainer = cost_table.trainer_name(spec, size)
    # the counter gives two operations for each multiply-accumulate
    return NetworkCost(spec.name, size, trainer, shape, outputs, parameters, counter.get_total_flops() // 2)


def write_table() -> None:
    """Measures the whole registry."""
    costs = [asdict(measure(spec, size)) for spec in registry.specs() for size in spec.sizes]
    text = "[\n" + ",\n".join(json.dumps(c) for c in costs) + "\n]\n"
    (ROOT / "nnunet_ext" / "networks" / cost_table.TABLE).write_text(text, encoding="utf-8")
    cost_table.rows.cache_clear()


def put(path: Path, name: str, table: str) -> None:
    """Puts a table between its markers in a document."""
    text = path.read_text(encoding="utf-8")
    begin, end = f"<!-- {name} -->\n", f"\n<!-- /{name} -->"
    before, rest = text.split(begin)
    path.write_text(f"{before}{begin}{table}{end}{rest.split(end)[1]}", encoding="utf-8")


def main() -> None:
    """The command."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    write_table()
    put(ROOT / "docs" / "zoo.md", "networks", cost_table.markdown())
    put(ROOT / "docs" / "trainers.md", "words", catalogue.words())
    put(ROOT / "docs" / "trainers.md", "recipes", catalogue.families())
    print(f"{len(cost_table.rows())} rows; see `nnunet_ext list`")


if __name__ == "__main__":
    main()
