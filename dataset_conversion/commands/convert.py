"""The command line of ``convert_brats.py``."""

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from dataset_conversion.brats.conversion import Conversion
from dataset_conversion.brats.dataset import Options, read_like, target_folder
from dataset_conversion.brats.discovery import Tree, TreeError, find_cases
from dataset_conversion.brats.lock import alone
from dataset_conversion.brats.output import make_tolerant

MOST_JOBS = 4  # by default: more wait for each other, and each takes memory
DESCRIPTION = """Convert a BraTS tree into an nnU-Net raw dataset, after an audit of every file.

SOURCE may be any folder with the cases of one edition somewhere below it; the edition and the cases are found by the
names of the files. A tree without segmentations becomes an input folder for nnUNetv2_predict."""
EPILOG = """exit codes:
  0  done
  1  problems in the data, each listed with its remedy; nothing was written
  2  cannot be done as asked, explained in one sentence on stderr
130  interrupted; start it again and it finishes the rest"""


def parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    made = argparse.ArgumentParser(
        prog="convert_brats.py",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("source", type=Path, metavar="SOURCE", help="folder of a BraTS set")
    made.add_argument("--dataset-id", type=int, required=True, metavar="N", help="nnU-Net's number of the dataset")
    made.add_argument("--edition", metavar="E", help="edition, where its names are those of another: 2023 or 2024-GLI")
    made.add_argument("--name", help="name of the dataset (default: the edition, such as BraTS2018)")
    kind = made.add_mutually_exclusive_group()
    kind.add_argument("--regions", action="store_true", default=True, help="overlapping WT, TC, ET (the default)")
    kind.add_argument("--labels", action="store_false", dest="regions", help="three separate labels")
    made.add_argument("--test-fraction", type=float, default=0.0, metavar="F", help="share of the patients kept apart")
    clip = made.add_mutually_exclusive_group()
    clip.add_argument(
        "--clip-percentiles", type=float, nargs=2, metavar=("LO", "HI"),
        help="clip each image's non-zero voxels to these percentiles; inputs for prediction then need --like",
    )  # fmt: skip
    clip.add_argument("--like", metavar="DATASET", help="clip and compress as this dataset (number, name or folder)")
    jobs = min(MOST_JOBS, os.cpu_count() or 1)
    made.add_argument("--jobs", type=int, default=jobs, metavar="N", help=f"threads (default here: {jobs})")
    made.add_argument("--copy", action="store_true", help="copy images instead of hard-linking them")
    made.add_argument("--dry-run", action="store_true", help="audit and say what would be done; write nothing")
    made.add_argument("--skip-bad", action="store_true", help="leave out cases with problems and list them in a file")
    made.add_argument("--allow-duplicates", action="store_true", help="convert scans that are there twice, on one side")
    return made


def _options(args: argparse.Namespace, tree: Tree) -> Options:
    """Options of the dataset; ValueError for values that make no sense."""
    limits = args.clip_percentiles and tuple(args.clip_percentiles)
    ending = ".nii.gz" if ".nii.gz" in tree.endings else ".nii"
    if args.like:
        limits, ending = read_like(args.like)
    if limits and not 0 <= limits[0] < limits[1] <= 100:
        raise ValueError(f"--clip-percentiles are {limits[0]} {limits[1]}; give 0 <= LO < HI <= 100.")
    if not 0 <= args.test_fraction < 1:
        raise ValueError(f"--test-fraction is {args.test_fraction}; give a share from 0 to less than 1.")
    if args.test_fraction and not tree.labelled:
        raise ValueError("--test-fraction has no meaning for a tree without segmentations; leave it out.")
    if args.jobs < 1:
        raise ValueError(f"--jobs is {args.jobs}; give at least 1.")
    return Options(tree.edition.name, tree.labelled, args.regions, args.test_fraction, limits, ending)


def _run(args: argparse.Namespace) -> int:
    if not args.source.is_dir():
        raise ValueError(f"SOURCE is {args.source}, which is no folder; give the folder of a BraTS set.")
    tree = find_cases(args.source.resolve(), args.edition)
    options = _options(args, tree)
    name = args.name or tree.edition.name + ("" if tree.labelled else "Input")
    target = target_folder(args.dataset_id, name)
    with nullcontext() if args.dry_run else alone(target):
        conversion = Conversion(tree, options, target, args.jobs)
        return conversion.run(
            link=not args.copy,
            dry_run=args.dry_run,
            skip_bad=args.skip_bad,
            allow_duplicates=args.allow_duplicates,
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Convert as ``argv`` (default: the process's arguments) says and return the exit code."""
    make_tolerant()
    args = parser().parse_args(argv)
    try:
        return _run(args)
    except TreeError as error:
        print(error, file=sys.stderr)
        return 1
    except ValueError as error:  # a mistake in the call, told in one sentence
        print(f"convert_brats.py: {error}", file=sys.stderr)
    except OSError as error:
        print(f"convert_brats.py: {error}; mend it and start again: what is written is kept.", file=sys.stderr)
    except KeyboardInterrupt:
        print("Interrupted; start it again and it finishes the rest.", file=sys.stderr)
        return 130
    return 2
