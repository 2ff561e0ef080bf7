"""torch.compile as one graph, every network: are its values, gradients and predictions those of the plain network?

    python benchmarks/compile.py [--models NAME ...] [--patch 16] [--backend aot_eager] [--jobs 1]

Each network in its smallest size, with nnU-Net's plan cut to four stages, deep supervision on, in float64, so that
another order of sums is not mistaken for another function. ``fullgraph=True`` makes every break of the graph an error,
which is not caught. Once in training mode: logits and the gradients of all parameters and of the input. Once in
evaluation without gradients. Each deviation is the largest of any tensor, in units of that tensor's largest value, for
gradients plus a thousandth of the network's largest (the gradient of a bias ahead of a norm is rounding alone).
``aot_eager`` traces forward and backward as on a GPU and runs the traced operators; no code is generated, so nothing is
said of speed. Writes ``compile.json`` and a table.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a script's own package is not on the path

from benchmarks import record  # noqa: E402 - needs the path above
from nnunet_ext.networks import registry  # noqa: E402 - see above
from nnunet_ext.networks.spec import NetworkSpec  # noqa: E402 - see above
from nnunet_ext.networks.stock_plan import INPUT_CHANNELS, OUTPUT_CHANNELS, stock_plan  # noqa: E402 - see above

STAGES = 4
PATCH = 16
TOLERANCE = 1e-9
FLOOR = 1e-3

Outputs = list[Tensor]


@dataclass(frozen=True)
class Row:
    """One network; deviations of the compiled from the plain one, in units of the largest value.

    Attributes:
        name: of the trainer's network.
        size: of the network.
        dimensions: 2 or 3.
        output, gradient: in training mode.
        prediction: in evaluation, without gradients.
    """

    name: str
    size: str
    dimensions: int
    output: float
    gradient: float
    prediction: float

    @property
    def equal(self) -> bool:
        """Whether all three are rounding."""
        return max(self.output, self.gradient, self.prediction) <= TOLERANCE


def build(spec: NetworkSpec, dims: int, patch: Sequence[int]) -> nn.Module:
    """The smallest size in float64."""
    torch.manual_seed(0)
    plan, channels = stock_plan(dims, STAGES), spec.channels(INPUT_CHANNELS)
    network = registry.build(
        spec,
        channels,
        spec.outputs(OUTPUT_CHANNELS),
        plan,
        size=spec.sizes[0],
        image_channels=INPUT_CHANNELS,
        patch_size=patch,
        deep_supervision=True,
    )
    initialize: Any = network.initialize
    return network.apply(initialize).double()


def step(network: nn.Module, run: Callable[[Tensor], Outputs], x: Tensor) -> tuple[Outputs, dict[str, Tensor]]:
    """Logits, and gradients of a function that weighs each of them differently, by parameters and input."""
    x = x.clone().requires_grad_()
    logits = run(x)
    weighed = [(o * torch.linspace(-1, 1, o.numel(), dtype=o.dtype).view_as(o)).sum() for o in logits]
    named = {"input": x, **dict(network.named_parameters())}
    gradients = torch.autograd.grad(torch.stack(weighed).sum(), list(named.values()))
    return [o.detach() for o in logits], dict(zip(named, gradients, strict=True))


def deviation(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], floor: float = 0.0) -> float:
    """The largest of all tensors, each in units of its own largest value plus ``floor``."""
    assert found.keys() == expected.keys()
    return max(((found[k] - v).abs().max() / (v.abs().max() + floor)).item() for k, v in expected.items())


def numbered(tensors: Outputs) -> dict[str, Tensor]:
    """By their places."""
    return {str(i): tensor for i, tensor in enumerate(tensors)}


def compare(spec: NetworkSpec, dims: int, edge: int = PATCH, backend: str = "aot_eager") -> Row:
    """Compiles one network and holds it against itself."""
    patch = spec.input_size or (edge,) * dims
    network = build(spec, dims, patch).train()
    torch._dynamo.reset()  # what other networks left is not counted
    compiled = torch.compile(network, backend=backend, fullgraph=True)
    shape = (2, spec.channels(INPUT_CHANNELS), *patch)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (logits, gradients), (own_logits, own_gradients) = step(network, network, x), step(network, compiled, x)
    largest = max(g.abs().max().item() for name, g in gradients.items() if name != "input")
    network.eval()
    with torch.no_grad():
        predicted, own_predicted = network(x), compiled(x)
    return Row(
        spec.trainer,
        spec.sizes[0],
        dims,
        deviation(numbered(own_logits), numbered(logits)),
        deviation(own_gradients, gradients, FLOOR * largest),
        deviation(numbered(own_predicted), numbered(predicted)),
    )


def compare_planned(spec: NetworkSpec, edge: int, backend: str) -> Row:
    """In 3D where the network is meant for it."""
    return compare(spec, max(spec.dimensions), edge, backend)


def table(rows: Sequence[Row]) -> str:
    """In the order of the zoo."""
    header = ["network", "size", "dimensions", "logits", "gradients", "prediction"]
    numbers = ([f"{v:.0e}" for v in (row.output, row.gradient, row.prediction)] for row in rows)
    lines = ([row.name, row.size, str(row.dimensions), *n] for row, n in zip(rows, numbers, strict=True))
    return record.markdown(header, lines)


def command(args: argparse.Namespace) -> int:
    """Compares and writes; 1 where a network differs."""
    specs = [registry.find(name)[0] for name in args.models] or list(registry.specs())
    rows = []
    # processes of their own: what torch compiled for one network is of no use to another
    with ProcessPoolExecutor(args.jobs, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        for row in pool.map(partial(compare_planned, edge=args.patch, backend=args.backend), specs):
            rows.append(row)
            print(table([row]).splitlines()[-1], flush=True)
    equal = sum(row.equal for row in rows)
    args.out.mkdir(parents=True, exist_ok=True)
    options = {"backend": args.backend, "patch": args.patch, "stages": STAGES, "tolerance": TOLERANCE}
    record.write_json(args.out / "compile.json", [asdict(row) for row in rows], **options)
    text = (
        f"# torch.compile as one graph\n\n`{record.command()}`\n\nBackend {args.backend}, `fullgraph=True`, torch "
        f"{torch.__version__}, commit {record.commit()}.\n\n{equal} of {len(rows)} networks compile as one graph, "
        f"forward and backward, and deviate from the plain network by at most {TOLERANCE:.0e}.\n\n{table(rows)}\n"
    )
    (args.out / "compile.md").write_text(text, encoding="utf-8")
    print(text)
    return 0 if equal == len(rows) else 1


def main() -> int:
    """The command line."""
    from benchmarks.costs.options import run_command

    parser = argparse.ArgumentParser(
        prog="compile.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=[], metavar="NAME", help="registry or trainer names (all)")
    parser.add_argument("--patch", type=int, default=PATCH, metavar="VOXELS", help="edge of the input (16)")
    parser.add_argument("--backend", default="aot_eager", help="of torch.compile (aot_eager)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="networks at a time (1)")
    parser.add_argument("--out", type=Path, default=record.RESULTS, metavar="DIR", help="folder of the results")
    return run_command(command, parser)


if __name__ == "__main__":
    sys.exit(main())
