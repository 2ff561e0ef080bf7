"""Parameters, multiply-accumulates (MACs) and floating-point operations (FLOPs) of networks, in all and by stage.

    python benchmarks/flops.py
    python benchmarks/flops.py --models unet3d_s monai_mednext_s --patch 96 96 96 --out results

MACs are those of one forward pass of one sample without deep supervision, each operator by its definition; FLOPs are
two for each MAC. Publications often print MACs under the name FLOPs. `step GMACs` is what a training step of the whole
batch executes. Nothing is run: the device is always meta.

Exit codes: 0 done, 1 a row failed (its status says why), 2 bad input.
"""

import argparse
import sys
from pathlib import Path

FILES = ("flops.csv", "stage_wise_flops.csv", "flops.json")


def command(args: argparse.Namespace) -> int:
    """Makes the table and the files."""
    from benchmarks import record
    from benchmarks.costs import report
    from benchmarks.costs.options import models_of, writable
    from benchmarks.costs.rows import Request, rows

    models, folder = models_of(args), writable(args.out, FILES)
    table, stages, everything = (folder / name for name in FILES)
    tables = {table: lambda row: report.flops_records([row]), stages: lambda row: report.stage_counts([row])}
    found = list(report.recorded(rows(models, Request()), tables, len(models)))
    print(report.flops_table(found))
    record.write_json(everything, report.flops_records(found))
    print(f"files in {folder}")
    return report.exit_code(found)


def main() -> int:
    """The command line."""
    from benchmarks.costs.options import add_model_options, run_command

    parser = argparse.ArgumentParser(
        prog="flops.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_model_options(parser)
    return run_command(command, parser)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a script's own package is not on the path
    sys.exit(main())
