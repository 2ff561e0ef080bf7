"""Peak activation memory (PAM), parameters and multiply-accumulates of networks, predicted or measured.

    python benchmarks/pam.py                                      # every network in size S, predicted
    python benchmarks/pam.py --models all peers --out results     # all sizes and other projects' networks, with files
    python benchmarks/pam.py --models nnUNetTrainer_DualBranchGhost_M --device cuda --repeats 5

PAM is the highest sum of the bytes of live tensors in a step, minus parameters, buffers, gradients, optimiser state and
input. MACs are those of one forward pass of one sample; FLOPs are twice as many. `fits` allows for a tenth of the card
beyond the tensors. docs/cost.md says what is assumed.
"""

import argparse
import sys
from pathlib import Path


def command(args: argparse.Namespace) -> int:
    """Makes the table and the files."""
    from benchmarks.costs import pictures, report
    from benchmarks.costs.options import models_of, request_of, writable
    from benchmarks.costs.rows import MANY, rows

    models = models_of(args)
    request = request_of(args, advise=args.device == "meta" and len(models) < MANY)
    folder = writable(args.out)
    found = list(rows(models, request))
    print(report.pam_table(found))
    for row in found:
        for remedy, total in (row.remedies or {}).items():
            print(f"{row.model.label}: {remedy} lowers the total to {total / 2**20:.0f} MiB")
    report.write_csv(folder / "pam.csv", [row.record() for row in found])
    report.write_csv(folder / "stage_wise_pam_results.csv", report.stage_records(found))
    report.write_json(folder / "pam.json", report.cost_records(found))
    pictures.stage_bars(found, folder / "pam_stages.png")
    pictures.scatters(found, folder / "pam_scatter.png")
    print(f"files in {folder}")
    return 0


def main() -> int:
    """The command line."""
    from benchmarks.costs.options import add_device_options, add_model_options, run_command

    parser = argparse.ArgumentParser(
        prog="pam.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_model_options(parser)
    add_device_options(parser, ("meta", "cpu", "cuda"), repeats=5)
    return run_command(command, parser)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a script's own package is not on the path
    sys.exit(main())
