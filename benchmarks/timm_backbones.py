"""Every backbone of timm, one step: has each parameter a finite gradient, and which of them are of the last stages?

    python benchmarks/timm_backbones.py [--models NAME ...] [--edge 64]

The networks of ``nnUNetTrainer_Case...`` that are timm's, as they are built for a training in 2D, with random weights
and two images of three channels; the loss is the sum of squares of two outputs. Parameters that timm begins at zero are
drawn: some branches begin silent, and then nothing before them has a gradient. ``last two`` is what ``Unfreeze2``
trains. Writes ``timm_backbones.json`` and a table.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a script's own package is not on the path

from benchmarks import record  # noqa: E402 - needs the path above
from nnunet_ext.networks import registry  # noqa: E402 - see above
from nnunet_ext.networks.spec import NetworkSpec  # noqa: E402 - see above
from nnunet_ext.networks.stock_plan import stock_plan  # noqa: E402 - see above

EDGE = 64  # pixels of an image; the smallest that all of them halve five times
CHANNELS, OUTPUTS, BATCH, STAGES = 3, 2, 2, 5
SILENT = 0.1  # deviation of what began at zero
PACKAGES = ("nnunet_ext", "torch", "timm")


@dataclass(frozen=True)
class Row:
    """One backbone.

    Attributes:
        name: of the trainer's network.
        model: timm's name of it.
        parameters: of the encoder.
        features: that the heads read.
        stages: of the encoder.
        last_two: parameters of the last two stages.
        tensors: parameters as tensors, the head's included.
        reached: how many of them have a finite gradient that is not zero everywhere.
    """

    name: str
    model: str
    parameters: int
    features: int
    stages: int
    last_two: int
    tensors: int
    reached: int


def rows_of_timm() -> tuple[NetworkSpec, ...]:
    """The declared networks that are timm's."""
    return tuple(spec for spec in registry.case_specs() if "timm" in spec.network)


def build(spec: NetworkSpec, edge: int = EDGE) -> Any:
    """The network for images of so many pixels an edge."""
    return registry.build(spec, CHANNELS, OUTPUTS, stock_plan(2, STAGES), patch_size=(edge, edge))


def count(modules: Sequence[nn.Module]) -> int:
    """Parameters of some modules."""
    return sum(p.numel() for module in modules for p in module.parameters())


def measure(spec: NetworkSpec, edge: int = EDGE) -> Row:
    """Builds a network and makes a step."""
    torch.manual_seed(0)
    network = build(spec, edge).train()
    with torch.no_grad():
        for parameter in (p for p in network.parameters() if not p.any()):
            parameter.normal_(std=SILENT)
    stages = network.encoder.stage_modules()
    network(torch.randn(BATCH, CHANNELS, edge, edge)).square().sum().backward()
    gradients = [p.grad for p in network.parameters()]
    reached = sum(g is not None and bool(g.isfinite().all()) and bool(g.any()) for g in gradients)
    return Row(
        spec.trainer,
        spec.options["model"],
        count([network.encoder]),
        network.n_features,
        len(stages),
        count([module for stage in stages[-2:] for module in stage]),
        len(gradients),
        reached,
    )


def table(rows: Sequence[Row]) -> str:
    """The rows for people."""
    header = ("trainer", "timm's name", "parameters", "features", "stages", "last two", "reached by a gradient")
    return record.markdown(
        header,
        (
            (
                row.name,
                row.model,
                f"{row.parameters:,}",
                str(row.features),
                str(row.stages),
                f"{row.last_two:,}",
                f"{row.reached} of {row.tensors}",
            )
            for row in rows
        ),
    )


def main(words: Sequence[str] | None = None) -> int:
    """Runs all, writes the files, and gives 1 if a parameter is not reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", metavar="NAME", help="e.g. CaseResNet50 (default: all)")
    parser.add_argument("--edge", type=int, default=EDGE, help="pixels (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=record.RESULTS, help="folder (default: %(default)s)")
    args = parser.parse_args(words)
    chosen = [spec for spec in rows_of_timm() if args.models is None or spec.trainer in args.models]
    if args.models and (unknown := set(args.models) - {spec.trainer for spec in chosen}):
        parser.error(f"there is no {min(unknown)}; choose from {', '.join(s.trainer for s in rows_of_timm())}")
    rows = []
    for spec in chosen:
        rows.append(measure(spec, args.edge))
        print(rows[-1], flush=True)
    facts = {"edge": args.edge, "batch": BATCH}
    record.write_json(args.out / "timm_backbones.json", [asdict(row) for row in rows], **facts)
    origin = record.origin(record.environment(PACKAGES))
    text = f"# Backbones of timm, one step\n\n{table(rows)}\n\n{origin}\n"
    (args.out / "timm_backbones.md").write_text(text, encoding="utf-8")
    return 0 if all(row.reached == row.tensors for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
