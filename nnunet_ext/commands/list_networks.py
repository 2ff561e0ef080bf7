"""List the networks with their sizes, trainers, parameters and GMACs.

Parameters and GMACs (10^9 multiply-accumulates of one forward pass) are those on nnU-Net's plan for BraTS: 4 channels
in, 3 regions out, 128x128x128 voxels; 2D networks: its 2d plan, 192x160 pixels. Networks for case-level targets, by
--task case-level, are encoders with heads and have no such figures.
"""

import argparse
import json
from dataclasses import asdict

from nnunet_ext.commands.table import aligned
from nnunet_ext.networks.cost_table import NetworkCost, rows
from nnunet_ext.networks.registry import PREFIX, case_specs, specs
from nnunet_ext.networks.tasks import CASE_LEVEL


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    parser.add_argument("--json", action="store_true", help="print a JSON list instead of a table")
    tasks = ("segmentation", CASE_LEVEL.name)
    parser.add_argument(
        "--task", choices=tasks, default=tasks[0], help="what the networks answer (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Prints the registry."""
    if args.task == CASE_LEVEL.name:
        print(_cases_as_json() if args.json else _cases_as_table())
        return 0
    costs = [rows()[spec.name, size] for spec in specs() for size in spec.sizes]
    print(_as_json(costs) if args.json else _as_table(costs))
    return 0


def _as_json(costs: list[NetworkCost]) -> str:
    described = {spec.name: spec for spec in specs()}
    records = [
        {**asdict(c), "description": described[c.network].description, "paper": described[c.network].paper}
        for c in costs
    ]
    return json.dumps(records, indent=2)


def _as_table(costs: list[NetworkCost]) -> str:
    cells = [["network", "size", "trainer", "parameters (M)", "GMACs", "input"]]
    for c in costs:
        shape = "x".join(map(str, c.input_shape))
        cells.append([c.network, c.size, c.trainer, f"{c.parameters / 1e6:.2f}", f"{c.macs / 1e9:.1f}", shape])
    more = f"{len(case_specs())} networks for case-level targets: nnunet_ext list --task {CASE_LEVEL.name}"
    return f"{aligned(cells)}\n\n{more}"


def _cases_as_json() -> str:
    records = [
        {
            "network": spec.name,
            "trainer": PREFIX + spec.trainer,
            "sizes": spec.sizes,
            "dimensions": spec.dimensions,
            "description": spec.description,
            "paper": spec.paper,
        }
        for spec in case_specs()
    ]
    return json.dumps(records, indent=2)


def _cases_as_table() -> str:
    cells = [["network", "sizes", "trainer", "for", "what"]]
    for spec in case_specs():
        dimensions = ", ".join(f"{count}D" for count in spec.dimensions)
        cells.append([spec.name, " ".join(spec.sizes), PREFIX + spec.trainer, dimensions, spec.description])
    return aligned(cells)
