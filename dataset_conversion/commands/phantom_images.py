"""The command line of ``phantom_images.py``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dataset_conversion.brats.output import make_tolerant, say
from dataset_conversion.pictures.sets import write_defects, write_pairs
from dataset_conversion.pictures.surface import SMALLEST

EPILOG = """Then: nnunet_ext targets -d 601 --images OUT --name Defects

exit codes: 0 done, 2 wrong usage or an OUT that cannot be written, 130 interrupted"""


def parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    made = argparse.ArgumentParser(
        prog="phantom_images.py",
        description="Write generated RGB images with targets: nobody's photographs, the same for the same seed.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    kinds = made.add_subparsers(dest="kind", required=True, metavar="KIND")
    defects = kinds.add_parser("defects", help="surfaces with and without a defect, a folder for each class")
    defects.add_argument("--images", type=int, default=200, metavar="N", help="half of them defect (default: 200)")
    pairs = kinds.add_parser("pairs", help="two views of each examination, a value that depends on both, age and sex")
    pairs.add_argument("--patients", type=int, default=26, metavar="N", help="(default: 26)")
    pairs.add_argument("--pairs", type=int, default=4, metavar="N", help="examinations of each (default: 4)")
    pairs.add_argument("--test", type=int, default=4, metavar="N", help="patients kept for testing (default: 4)")
    for kind in (defects, pairs):
        kind.add_argument("out", type=Path, help="folder to write into, new or empty")
        kind.add_argument("--size", type=int, default=512, metavar="N", help="pixels an edge (default: 512)")
        kind.add_argument("--seed", type=int, default=0, help="another seed gives other images (default: 0)")
    return made


def _check(arguments: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    least = {"size": SMALLEST, "seed": 0, "images": 2, "patients": 2, "pairs": 1, "test": 0}
    for name, number in least.items():
        if getattr(args, name, number) < number:
            arguments.error(f"--{name} is {getattr(args, name)}; give at least {number}")
    if args.kind == "pairs" and args.test >= args.patients:
        arguments.error(f"--test is {args.test} of {args.patients} patients; leave some to train with")
    if args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
        arguments.error(f"{args.out} is no empty folder; give another, or remove it")


def main(argv: Sequence[str] | None = None) -> int:
    """Write the set that ``argv`` (default: the process's arguments) describes and return the exit code."""
    make_tolerant()
    arguments = parser()
    args = arguments.parse_args(argv)
    _check(arguments, args)
    try:
        if args.kind == "defects":
            write_defects(args.out, args.images, args.size, args.seed)
        else:
            write_pairs(args.out, args.patients, args.pairs, args.test, args.size, args.seed)
    except OSError as error:
        print(f"phantom_images.py: {error}; give a folder that can be written.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted; remove what is there and start anew.", file=sys.stderr)
        return 130
    say(f"{args.kind} of {args.size} x {args.size} pixels in {args.out}")
    return 0
