"""Plans that fit: patch and batch of networks for several cards, and the rule that stopped each.

    python benchmarks/plans.py -d 501
    python benchmarks/plans.py -d 501 --networks nnUNetTrainer_UNet3D_L --gpu-memory 16 40 --out results

DATASET is one that nnU-Net has planned; no plans are written (``nnunet_ext plan`` does). All is predicted, so no GPU is
needed. Writes plans.json, with every configuration, and plans.md, with the table of CONFIG.
"""

import argparse
import io
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a script's own package is not on the path

from benchmarks.costs.options import run_command, writable  # noqa: E402 - needs the path above
from benchmarks.record import markdown, write_json  # noqa: E402 - see above
from nnunet_ext.commands.plan import (  # noqa: E402 - see above
    cells,
    check_files,
    check_numbers,
    memory_of,
    trainer_of,
)
from nnunet_ext.commands.preprocessed import dataset_folder, read_plans  # noqa: E402 - see above
from nnunet_ext.planning.planner import STANDARD, FittingPlanner  # noqa: E402 - see above
from nnunet_ext.profiling.cost import GIB, RESERVE  # noqa: E402 - see above

NETWORKS = ("DualBranchGhost_M", "UNet3D", "DualBranchStride_M", "DualBranchRepLK_M", "SwinUNETR_M")
FILES = ("plans.json", "plans.md")
TARGETS = (4.0, 8.0, 11.0, 24.0)  # GB of the card
HEADER = ("network", "card", "patch", "batch", "memory", "used", "patch stopped by", "batch stopped by")


class Unwritten(FittingPlanner):
    """Keeps its plans to itself."""

    def write(self, plans: dict[str, Any]) -> None:
        """Writes nothing."""


def records(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One record for each network and target, with the fits by configuration or the reason why there are none."""
    folder = dataset_folder(args.d)
    base = read_plans(folder, args.p)
    check_files(folder)
    for trainer in [trainer_of(name) for name in args.networks]:
        memory = memory_of(trainer)
        for target in args.gpu_memory:
            planner = Unwritten(folder, base, memory, target, "unwritten", reserve=args.reserve)
            planner.max_dataset_covered = args.max_dataset_covered
            record = {"network": f"{trainer.spec.trainer}_{trainer.size}", "target_gb": target}
            try:
                with redirect_stdout(io.StringIO()):
                    planner.plan_experiment()
            except ValueError as error:
                yield record | {"fits": {}, "refused": dict.fromkeys(STANDARD, str(error))}
                continue
            yield record | {"fits": planner.fits, "refused": planner.refused}


def line(record: dict[str, Any], configuration: str, covered: float) -> list[str]:
    """The record's line of the table."""
    start = [record["network"], f"{record['target_gb']:g} GB"]
    if (fit := record["fits"].get(configuration)) is None:
        reason = record["refused"].get(configuration, f"no {configuration} for this network and dataset")
        return [*start, *["-"] * 4, reason, "-"]
    return [*start, *cells(fit, covered)]


def as_plain(record: dict[str, Any]) -> dict[str, Any]:
    """The record for JSON."""
    fits = {name: {**asdict(fit), "share": fit.share} for name, fit in record["fits"].items()}
    return {**record, "fits": fits}


def command(args: argparse.Namespace) -> int:
    """Prints each line when it is found, then writes the files."""
    if args.c not in STANDARD:
        raise ValueError(f"There is no configuration {args.c!r} to plan; there are {', '.join(STANDARD)}.")
    for target in args.gpu_memory:
        check_numbers(target, args.max_dataset_covered, args.reserve)
    folder, found = writable(args.out, FILES), []
    for record in records(args):
        print("  ".join(line(record, args.c, args.max_dataset_covered)), flush=True)
        found.append(record)
    table = markdown(HEADER, [line(record, args.c, args.max_dataset_covered) for record in found])
    everything, text = (folder / name for name in FILES)
    write_json(everything, [as_plain(record) for record in found])
    text.write_text(table + "\n", encoding="utf-8")
    return 0


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="plans.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-d", required=True, metavar="DATASET", help="number or name")
    parser.add_argument("-p", default="nnUNetPlans", metavar="PLANS", help="default: %(default)s")
    parser.add_argument("-c", default="3d_fullres", metavar="CONFIG", help="of the table; default: %(default)s")
    parser.add_argument("--networks", nargs="+", default=NETWORKS, metavar="NAME", help="trainer or registry names")
    parser.add_argument("--gpu-memory", nargs="+", type=float, default=TARGETS, metavar="GB", help="of cards")
    parser.add_argument("--reserve", type=float, default=RESERVE / GIB, metavar="GB", help="of a card without tensors")
    parser.add_argument("--max-dataset-covered", type=float, default=0.05, metavar="F")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", metavar="FOLDER")
    return run_command(command, parser)


if __name__ == "__main__":
    sys.exit(main())
