"""Latency of one forward pass at batch 1: minimum, median and 90th percentile.

    python benchmarks/latency.py --models unet3d_xs dualbranch_14_ghostnet_xs --patch 64 64 64
    python benchmarks/latency.py --models all --device cuda --repeats 50 --out results

One window of nnU-Net's sliding window, without mirroring, after warm-up; on CUDA between synchronisations. Everything
else that runs on the machine adds to it, and so does the number of threads (in the JSON file). Rows are written as they
come.

Exit codes: 0 done, 1 a row failed (its status says why), 2 bad input.
"""

import argparse
import sys
from pathlib import Path

FILES = ("latency.csv", "latency.json")


def command(args: argparse.Namespace) -> int:
    """Makes the table and the files."""
    from benchmarks import record
    from benchmarks.costs import report
    from benchmarks.costs.options import models_of, request_of, writable
    from benchmarks.costs.rows import latency_record, timed_row

    args.batch = 1
    models, request, folder = models_of(args), request_of(args), writable(args.out, FILES)
    table, everything = (folder / name for name in FILES)
    rows = (timed_row(model, request) for model in models)
    found = list(report.recorded(rows, {table: lambda row: [latency_record(row)]}, len(models)))
    print(report.latency_table(found))
    record.write_json(everything, [latency_record(row) for row in found])
    print(f"files in {folder}")
    return report.exit_code(found)


def main() -> int:
    """The command line."""
    from benchmarks.costs.options import add_device_options, add_model_options, run_command

    parser = argparse.ArgumentParser(
        prog="latency.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_model_options(parser, batch=False)
    add_device_options(parser, ("cpu", "cuda"), repeats=20)
    return run_command(command, parser)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a script's own package is not on the path
    sys.exit(main())
