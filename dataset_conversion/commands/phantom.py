"""The command line of ``phantom_brats.py``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from dataset_conversion.brats.outcome import TABLE, TABLES, plant, write_survival
from dataset_conversion.brats.output import make_tolerant, say
from dataset_conversion.brats.phantom import MINIMUM_EDGE, make_phantom
from dataset_conversion.brats.phantom_tree import LAYOUTS, case_folder, write_case


def parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    made = argparse.ArgumentParser(
        prog="phantom_brats.py",
        description="Write a BraTS training tree of phantoms: no patient's data, the same bytes for the same seed.",
        epilog="exit codes: 0 done, 2 wrong usage or an OUT that cannot be written, 130 interrupted",
    )
    made.add_argument("out", type=Path, help="folder that the edition's tree is written into")
    made.add_argument("--cases", type=int, default=10, help="number of cases (default: 10)")
    made.add_argument(
        "--shape", type=int, nargs=3, default=(155, 240, 240), metavar=("D", "H", "W"),
        help="voxels of 1 mm along z, y, x (default: 155 240 240, as BraTS)",
    )  # fmt: skip
    made.add_argument("--seed", type=int, default=0, help="another seed gives other brains (default: 0)")
    made.add_argument("--edition", choices=list(LAYOUTS), default="2018", help="layout and names (default: 2018)")
    made.add_argument(
        "--outcomes", action="store_true",
        help="plant grade, days and age, and write the survival table that the converter makes targets of (2018)",
    )  # fmt: skip
    return made


def _write(args: argparse.Namespace) -> None:
    outcomes = {}
    for index in tqdm(range(args.cases), desc="phantoms", unit="case"):
        outcome = plant(args.seed, index) if args.outcomes else None
        phantom = make_phantom(tuple(args.shape), args.seed, index, outcome)
        folder = case_folder(args.out, args.edition, index, phantom.grade)
        write_case(phantom, folder)
        if outcome:
            outcomes[folder.name] = outcome
    if outcomes:
        write_survival(folder.parents[1] / TABLE, args.edition, outcomes)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the tree that ``argv`` (default: the process's arguments) describes and return the exit code."""
    make_tolerant()
    arguments = parser()
    args = arguments.parse_args(argv)
    if args.cases < 1:
        arguments.error(f"--cases is {args.cases}; give at least 1")
    if args.seed < 0:
        arguments.error(f"--seed is {args.seed}; give 0 or more")
    if min(args.shape) < MINIMUM_EDGE:
        arguments.error(f"--shape has an edge of {min(args.shape)} voxels; a brain needs at least {MINIMUM_EDGE}")
    if args.outcomes and args.edition not in TABLES:
        arguments.error(f"--outcomes has no table of survival in {args.edition}; take --edition {', '.join(TABLES)}")
    try:
        _write(args)
    except OSError as error:
        print(f"phantom_brats.py: {error}; give a folder that can be written.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted; the same command starts anew.", file=sys.stderr)
        return 130
    say(f"{args.cases} phantoms of BraTS {args.edition} in {args.out}")
    return 0
