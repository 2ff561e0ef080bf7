"""Prediction on a CPU: every 3D network but the detectors against nnU-Net's, one tile of 128^3 with four channels.

    python benchmarks/forward_cpu.py [--models NAME ...] [--patch Z Y X] [--repeats 3] [--threads 1] [--out DIR]

All networks take turns in one process: in each round nnU-Net's PlainConvUNet (stock plan of BraTS), then every other
one, in evaluation mode without deep supervision, fp32; the first round warms up. A ratio is how many times faster than
nnU-Net's in the same round a network was, by the processor time of the process, which other processes do not add to;
the median of the rounds counts. Seconds on the clock stand beside it. Writes ``forward_cpu.json`` and a table.
"""

import argparse
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nnunet_ext.networks import registry
from nnunet_ext.profiling.predict import evaluated

RESULTS = Path(__file__).parent / "results"
REFERENCE = "nnunet_plain"


@dataclass(frozen=True)
class Row:
    """One network; seconds and ratios are medians of the rounds.

    Attributes:
        name: of the network, with its size.
        parameters, gmacs: of one forward pass.
        processor: seconds of processor time.
        clock: seconds that passed.
        faster, faster_by_clock: times faster than nnU-Net's network in the same round.
        spread: the smallest and the largest of the ratios by processor time.
    """

    name: str
    parameters: int
    gmacs: float
    processor: float
    clock: float
    faster: float
    faster_by_clock: float
    spread: tuple[float, float]


def forward(network: nn.Module, image: Tensor) -> tuple[float, float]:
    """Seconds of processor time and on the clock."""
    with evaluated(network), torch.inference_mode():
        clock, processor = time.perf_counter(), time.process_time()
        network(image)
        return time.process_time() - processor, time.perf_counter() - clock


def gmacs(network: nn.Module, shape: tuple[int, ...]) -> float:
    """Billions of multiply-accumulates, each of which torch counts as two operations; for a network on meta."""
    counter = FlopCounterMode(display=False)
    with counter, evaluated(network):
        network(torch.empty(shape, device="meta"))
    return counter.get_total_flops() / 2e9


def default_models() -> list[str]:
    """Every network for nnU-Net's patch in 3D, in its default size; detectors see the whole brain in a smaller one."""
    return [
        f"{s.name}_{registry.default_size(s)}" for s in registry.specs() if 3 in s.dimensions and s.usual_size is None
    ]


def compare(names: list[str], patch: tuple[int, ...], repeats: int) -> list[Row]:
    """Measures all networks; nnU-Net's is the first row."""
    from benchmarks.costs.models import Input, choose

    models = choose([REFERENCE, *names], Input(patch, 1))
    image = torch.randn(models[0].input_shape, generator=torch.Generator().manual_seed(0))
    counts, networks = [], []
    for model in models:
        with torch.device("meta"):
            counted = model.build()
        counts.append((sum(p.numel() for p in counted.parameters()), gmacs(counted, model.input_shape)))
        networks.append(model.build())
    rounds = [[forward(network, image) for network in networks] for _ in range(repeats + 1)][1:]
    rows = []
    for i, (model, count) in enumerate(zip(models, counts, strict=True)):
        processor, clock = (median(times[i][kind] for times in rounds) for kind in range(2))
        ratios = [times[0][0] / times[i][0] for times in rounds]
        by_clock = median(times[0][1] / times[i][1] for times in rounds)
        spread = min(ratios), max(ratios)
        rows.append(Row(model.label, *count, processor, clock, median(ratios), by_clock, spread))
    return rows


def table(rows: list[Row]) -> str:
    """Fastest first."""
    from benchmarks.record import markdown

    header = ["network", "parameters (M)", "GMACs", "processor (s)", "clock (s)", "times faster", "range", "by clock"]
    return markdown(
        header,
        [
            [
                row.name,
                f"{row.parameters / 1e6:.2f}",
                f"{row.gmacs:.1f}",
                f"{row.processor:.2f}",
                f"{row.clock:.2f}",
                f"{row.faster:.2f}",
                f"{row.spread[0]:.2f}-{row.spread[1]:.2f}",
                f"{row.faster_by_clock:.2f}",
            ]
            for row in sorted(rows, key=lambda row: -row.faster)
        ],
    )


def command(args: argparse.Namespace) -> int:
    """Measures and writes."""
    from benchmarks.record import write_json

    torch.set_num_threads(args.threads)
    rows = compare(args.models or default_models(), tuple(args.patch), args.repeats)
    args.out.mkdir(parents=True, exist_ok=True)
    write_json(args.out / "forward_cpu.json", [{**asdict(row), "repeats": args.repeats} for row in rows])
    own = [row.faster for row in rows[1:]]
    summary = (
        f"{sum(ratio >= 2 for ratio in own)} of {len(own)} networks are at least twice as fast as nnU-Net's, "
        f"the fastest {max(own):.1f} times."
    )
    patch = " ".join(map(str, args.patch))
    run = f"`python benchmarks/forward_cpu.py --patch {patch} --repeats {args.repeats} --threads {args.threads}`"
    text = f"# Prediction of one tile on a CPU\n\n{run}\n\n{summary}\n\n{table(rows)}\n"
    (args.out / "forward_cpu.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


def main() -> int:
    """The command line."""
    from benchmarks.costs.options import run_command

    parser = argparse.ArgumentParser(
        prog="forward_cpu.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=[], metavar="NAME", help="registry names with sizes")
    parser.add_argument("--patch", nargs=3, type=int, default=[128, 128, 128], metavar="VOXELS", help="z y x")
    parser.add_argument("--repeats", type=int, default=3, help="rounds after the warm-up")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    return run_command(command, parser)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a script's own package is not on the path
    sys.exit(main())
