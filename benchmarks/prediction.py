"""Is the prediction right? Predicted memory of ten networks beside what the device itself reports, in one run.

    python benchmarks/prediction.py                        # CPU: 64x64x64, fp32, allocator events of torch's profiler
    python benchmarks/prediction.py --device cuda --patch 128 128 128      # CUDA: amp, peaks of the allocator

Writes prediction_DEVICE.json and .md. Exit codes: 0 every deviation is within the limit (5 % of the PAM on a CPU, 10 %
of all allocated bytes on CUDA), 1 one is not or a network failed, 2 bad input.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a script's own package is not on the path

from benchmarks import record  # noqa: E402 - needs the path above
from benchmarks.costs import report  # noqa: E402 - see above
from benchmarks.costs.options import (  # noqa: E402 - see above
    add_device_options,
    add_model_options,
    models_of,
    request_of,
    run_command,
    writable,
)
from benchmarks.costs.rows import OK, Row, rows  # noqa: E402 - see above
from nnunet_ext.profiling.cost import MIB  # noqa: E402 - see above

NETWORKS = (  # of different families
    "UNet3D_S",
    "UNETR_S",
    "SwinUNETR_S",
    "MobileUNETR3D_S",
    "DualBranchRepLK_S",
    "DualBranchMViT_S",
    "DualBranchGhost_S",
    "DualBranchConvNeXt_S",
    "DualBranchShuffleV2_S",
    "QuadBranchAttention_S",
)
EDGE = 64
LIMITS = {"cpu": 0.05, "cuda": 0.1}
HEADER = ("network", "figure", "predicted MiB", "measured MiB", "sd", "deviation")


def compared(row: Row) -> tuple[str, float, float, float]:
    """What is compared, predicted and measured bytes, and the standard deviation of the latter."""
    assert row.cost is not None
    assert row.training is not None
    if row.request.device == "cuda":
        return "total", row.cost.training.total, *row.training.total
    return "PAM", row.cost.training.pam, *row.training.activations


def deviation(row: Row) -> float:
    """(predicted - measured) / measured."""
    _, predicted, measured, _ = compared(row)
    return predicted / measured - 1


def line(row: Row) -> list[str]:
    """The row's line of the table."""
    if row.status != OK:
        return [row.model.label, row.status, *["-"] * 4]
    figure, *numbers = compared(row)
    cells = (f"{n / MIB:.1f}" for n in numbers)
    return [row.model.label, f"{figure} of a training step", *cells, f"{100 * deviation(row):+.2f} %"]


def command(args: argparse.Namespace) -> int:
    """Measures each network, prints its line, writes the files."""
    args.models = args.models or list(NETWORKS)
    args.patch = args.patch or [EDGE] * 3
    models, request = models_of(args), request_of(args)
    folder = writable(args.out, [f"prediction_{args.device}{suffix}" for suffix in (".md", ".json")])
    found = []
    for row in rows(models, request):
        print("  ".join(line(row)), flush=True)
        found.append(row)
    stem = folder / f"prediction_{request.device}"
    head = f"batch {models[0].input_shape[0]}, {'x'.join(map(str, args.patch))}, {request.precision}, {request.device}"
    table = record.markdown(HEADER, map(line, found))
    stem.with_suffix(".md").write_text(f"{head}; {request.repeats} repeats\n\n{table}\n", encoding="utf-8")
    record.write_json(stem.with_suffix(".json"), report.cost_records(found))
    right = all(row.status == OK and abs(deviation(row)) <= LIMITS[request.device] for row in found)
    return 0 if right else 1


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="prediction.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_model_options(parser)
    add_device_options(parser, ("cpu", "cuda"), repeats=5)
    parser.set_defaults(out=ROOT / "benchmarks" / "results")
    return run_command(command, parser)


if __name__ == "__main__":
    sys.exit(main())
