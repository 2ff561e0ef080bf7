"""Depthwise convolution by FFT against torch's direct form: the same function, time of forward and forward + backward.

    python benchmarks/depthwise.py [--kernels 5 7 9 13] [--channels 32] [--edge 32] [--repeats 5] [--device cpu]
                                   [--threads 1]

Both forms take turns in one process on the same map (batch 1, fp32). Time: on the CPU the processor time of the
process, which other processes do not add to; on a GPU wall time between synchronisations. Deviation: the largest
difference of the output and of both gradients, as a part of the largest value of each. Writes a JSON file and a table.
"""

import argparse
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a script's own package is not on the path

from benchmarks import record
from nnunet_ext.networks.depthwise import Backend, depthwise

FORMS: tuple[Backend, ...] = ("direct", "fft")


@dataclass(frozen=True)
class Row:
    """One kernel size; milliseconds are medians, ratios how many times faster the FFT form is (median of pairs)."""

    kernel: int
    deviation: float
    forward_direct: float
    forward_fft: float
    forward_ratio: float
    training_direct: float
    training_fft: float
    training_ratio: float


def clock(device: torch.device) -> float:
    """Seconds, see the module's docstring."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def run(form: Backend, x: Tensor, kernel: Tensor) -> tuple[list[Tensor], tuple[float, float]]:
    """Output and gradients; milliseconds of the forward pass and of both passes."""
    start = clock(x.device)
    y = depthwise(x, kernel, stride=(1, 1, 1), backend=form)
    middle = clock(x.device)
    gradients = torch.autograd.grad(y, (x, kernel), torch.ones_like(y))
    end = clock(x.device)
    return [y.detach(), *gradients], ((middle - start) * 1e3, (end - start) * 1e3)


def compare(kernel_size: int, channels: int, edge: int, repeats: int, device: torch.device) -> Row:
    """Measures one kernel size; the first pair of runs warms up."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((1, channels, *(edge,) * 3), generator=generator).to(device).requires_grad_()
    kernel = torch.randn((channels, 1, *(kernel_size,) * 3), generator=generator).to(device).requires_grad_()
    pairs = [[run(form, x, kernel) for form in FORMS] for _ in range(repeats + 1)]
    deviation = max(
        ((a - b).abs().max() / a.abs().max()).item() for a, b in zip(*(r[0] for r in pairs[0]), strict=True)
    )
    figures = []
    for i in range(2):
        times = [(direct[1][i], fft[1][i]) for direct, fft in pairs[1:]]
        figures += [*(median(t) for t in zip(*times, strict=True)), median(direct / fft for direct, fft in times)]
    return Row(kernel_size, deviation, *figures)


def markdown(rows: list[Row]) -> str:
    """The table."""
    forms = ("direct (ms)", "by FFT (ms)", "times faster")
    header = ["kernel", "deviation", *(f"{what} {form}" for what in ("forward", "step") for form in forms)]
    lines = []
    for r in rows:
        figures = (
            r.forward_direct,
            r.forward_fft,
            r.forward_ratio,
            r.training_direct,
            r.training_fft,
            r.training_ratio,
        )
        lines.append([f"{r.kernel}^3", f"{r.deviation:.0e}", *(f"{figure:.1f}" for figure in figures)])
    return record.markdown(header, lines)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernels", type=int, nargs="+", default=[5, 7, 9, 13], help="odd edges in voxels")
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--edge", type=int, default=32, help="of the map, in voxels")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=record.RESULTS, help="folder of the results")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = [compare(k, args.channels, args.edge, args.repeats, torch.device(args.device)) for k in args.kernels]
    args.out.mkdir(parents=True, exist_ok=True)
    stem = args.out / f"depthwise_{args.device}"
    shape = [1, args.channels, *(args.edge,) * 3]
    record.write_json(stem.with_suffix(".json"), [asdict(row) for row in rows], map=shape, repeats=args.repeats)
    text = f"`{record.command()}`\n\n{markdown(rows)}\n"
    stem.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
