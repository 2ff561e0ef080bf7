"""The command line of ``restore_brats_labels.py``."""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from dataset_conversion.brats.editions import EDITIONS, Edition, edition_named
from dataset_conversion.brats.files import read_json, replacing
from dataset_conversion.brats.listing import ending_of
from dataset_conversion.brats.output import make_tolerant, say
from dataset_conversion.brats.volumes import VolumeError, read_volume, relabel

EPILOG = """exit codes:
  0  done
  1  problems in the predictions, each listed; nothing was written
  2  cannot be done as asked, explained in one sentence on stderr
130  interrupted; what is written is whole"""


def parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    made = argparse.ArgumentParser(
        prog="restore_brats_labels.py",
        description="Write the predictions of PRED into OUT with their edition's labels (up to BraTS 2021: 3 -> 4).",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("pred", type=Path, metavar="PRED", help="folder of segmentations with our labels 0, 1, 2, 3")
    made.add_argument("out", type=Path, metavar="OUT", help="folder to write them into, under the same names")
    which = made.add_mutually_exclusive_group()
    which.add_argument("--edition", metavar="E", help="edition, such as 2018 (default: by the names of the cases)")
    which.add_argument("--dataset", type=Path, metavar="DIR", help="converted dataset or trained model: its edition")
    return made


def _edition_of_dataset(folder: Path) -> Edition:
    path = folder / "dataset.json"
    content = read_json(path) if path.is_file() else {}
    if "edition" not in content:
        raise ValueError(f"--dataset is {folder}, which has no dataset.json of this converter; give --edition instead.")
    return edition_named(content["edition"])


def _edition_of_names(files: list[Path]) -> Edition:
    cases = [file.name[: -len(ending_of(file))] for file in files]
    editions = [edition for edition in EDITIONS if all(map(edition.owns, cases))]
    if not editions:
        raise ValueError(f"The names of the cases, such as {cases[0]}, do not tell one edition; give --edition.")
    return editions[0]


def _problem(file: Path, edition: Edition) -> str:
    """Say why ``file`` is no segmentation with our labels; nothing if it is one."""
    try:
        values = read_volume(file).labels()
    except VolumeError as error:
        return f"{error.text}; {error.remedy}"
    ours = [0, *edition.ours]
    foreign = np.unique(values[~np.isin(values, ours)])
    if not foreign.size:
        return ""
    return f"has the label {foreign[0]:g}, expected only {', '.join(map(str, ours))}; were its labels restored before?"


def _restore(file: Path, target: Path, edition: Edition) -> None:
    back = {ours: theirs for theirs, ours in edition.labels.items()}
    if all(ours == theirs for ours, theirs in back.items()):
        with replacing(target) as temporary:
            shutil.copyfile(file, temporary)
    else:
        try:
            relabel(file, target, back)
        except VolumeError as error:  # the check found it sound: it was changed since
            raise OSError(f"{file} {error}") from error


def _run(args: argparse.Namespace) -> int:
    there = args.pred.iterdir() if args.pred.is_dir() else []
    files = sorted(file for file in there if ending_of(file) and not file.name.startswith("._"))  # macOS's shadows
    if not files:
        raise ValueError(f"PRED is {args.pred}, which holds no .nii.gz or .nii file; give a folder of predictions.")
    if args.out.resolve() == args.pred.resolve():
        raise ValueError("OUT is PRED; give another folder, so that no file is restored twice.")
    if args.edition:
        edition = edition_named(args.edition)
    else:
        edition = _edition_of_dataset(args.dataset) if args.dataset else _edition_of_names(files)
    problems = {file.name: text for file in tqdm(files, "check", unit="case") if (text := _problem(file, edition))}
    for name, text in problems.items():
        say(f"{name} {text}")
    if problems:
        say("Nothing was written.")
        return 1
    args.out.mkdir(parents=True, exist_ok=True)
    for file in tqdm(files, "write", unit="case"):
        _restore(file, args.out / file.name, edition)
    say(f"{len(files)} segmentations with the labels of {edition.name} in {args.out}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Restore labels as ``argv`` (default: the process's arguments) says and return the exit code."""
    make_tolerant()
    args = parser().parse_args(argv)
    try:
        return _run(args)
    except (ValueError, OSError) as error:
        print(f"restore_brats_labels.py: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("Interrupted; what is written is whole. Start it again.", file=sys.stderr)
        return 130
    return 2
