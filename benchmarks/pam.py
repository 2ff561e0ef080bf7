"""Peak activation memory (PAM), parameters and multiply-accumulates of networks, predicted or measured.

    python benchmarks/pam.py                                      # every network in size S, predicted
    python benchmarks/pam.py --models all peers --out results     # all sizes and other projects' networks, with files
    python benchmarks/pam.py --models nnUNetTrainer_DualBranchGhost_M --device cuda --repeats 5

PAM is the highest sum of the bytes of activations that are live at one moment of forward pass, loss and backward pass,
or of a forward pass of one sample, as nnU-Net predicts. MACs are those of one forward pass of one sample; FLOPs are
twice as many. `card GB` is what a graphics card must have for a training step: all tensors and a reserve. Rows are
written as they come; the last line says how long they took and how much memory. docs/cost.md says what is assumed.

Exit codes: 0 done, 1 a row failed (its status says why), 2 bad input.
"""

import argparse
import sys
import time
from pathlib import Path

CSVS = ("pam.csv", "pam_memory.csv", "stage_wise_pam_results.csv")
FILES = (*CSVS, "pam.md", "pam.json", "pam_stages.png", "pam_scatter.png")


def command(args: argparse.Namespace) -> int:
    """Makes the table and the files."""
    from benchmarks import record
    from benchmarks.costs import pictures, report
    from benchmarks.costs.options import models_of, request_of, writable
    from benchmarks.costs.rows import MANY, rows
    from benchmarks.costs.usage import Usage

    start = time.perf_counter()
    models = models_of(args)
    args.advise = args.advise or (args.device == "meta" and len(models) < MANY)
    request, folder = request_of(args), writable(args.out, FILES)
    table, memory, stages, text, everything, bars, points = (folder / name for name in FILES)
    tables = {
        table: lambda row: [row.record()],
        memory: lambda row: report.memory_records([row]),
        stages: lambda row: report.stage_records([row]),
    }
    found = list(report.recorded(rows(models, request), tables, len(models)))
    usage = Usage.of((row.process for row in found), time.perf_counter() - start)
    text.write_text(report.pam_table(found) + "\n", encoding="utf-8")
    print("\n".join([report.pam_table(found), *report.remedy_lines(found)]))
    record.write_json(everything, report.cost_records(found), usage=usage.as_dict())
    pictures.stage_bars(found, bars)
    pictures.scatters(found, points)
    print(f"{usage}; files in {folder}")
    return report.exit_code(found)


def main() -> int:
    """The command line."""
    from benchmarks.costs.options import add_device_options, add_model_options, add_step_options, run_command

    parser = argparse.ArgumentParser(
        prog="pam.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_model_options(parser)
    add_device_options(parser, ("meta", "cpu", "cuda"), repeats=5)
    add_step_options(parser)
    return run_command(command, parser)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a script's own package is not on the path
    sys.exit(main())
