"""Check a dataset's case-level targets, copy them to nnUNet_preprocessed, and make folds by patient.

Reads targets.csv and targets.json beside imagesTr (docs/outcomes.md describes them). Folds that are there, in
nnUNet_preprocessed or beside the images, are kept if no patient is on two sides of one; else they are made, stratified
by a target. With --images a dataset is made of plain 2D images first: a folder of each class, or images with a table
and a schema. Then:

  nnUNetv2_plan_and_preprocess -d DATASET -c 2d (or 3d_fullres, or 3d_roi by nnunet_ext plan-roi)
"""

import argparse
import json
import os
import re
import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_ext.commands.preprocessed import find_dataset
from nnunet_ext.commands.table import aligned

if TYPE_CHECKING:
    from nnunet_ext.outcomes.folds import Split
    from nnunet_ext.outcomes.images2d import Source
    from nnunet_ext.outcomes.targets import Targets

SPLITS_FILE = "splits_final.json"
RAW, PREPROCESSED = "nnUNet_raw", "nnUNet_preprocessed"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    parser.add_argument("-d", required=True, metavar="DATASET", help="number or name of a raw dataset")
    parser.add_argument("--folds", type=int, default=5, metavar="N", help="folds to make (default: %(default)s)")
    parser.add_argument(
        "--new-splits", action="store_true", help="make folds anew; those that are there are kept under another name"
    )
    parser.add_argument(
        "--stand-in",
        choices=["image", "box"],
        help="where there is no segmentation: the whole image, or the box of what is not zero, is written in its place",
    )
    images = parser.add_argument_group("a dataset of plain 2D images")
    images.add_argument("--images", type=Path, metavar="FOLDER", help="make the dataset -d (a number) of these images")
    images.add_argument("--name", help="name of the dataset (default: the folder's)")
    images.add_argument(
        "--size", type=int, nargs=2, metavar=("H", "W"), help="resample all to rows and columns (default: as they are)"
    )
    images.add_argument(
        "--input", type=Path, metavar="OUT", help="only write the images into OUT as those of -d are, to be predicted"
    )
    images.add_argument(
        "--levels",
        nargs="+",
        default=[],
        metavar="CLASS",
        help="order of the folders of classes; the second is positive",
    )
    images.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="INPUT",
        help="where a case has several images: those of these inputs of targets.json alone (default: all)",
    )


def run(args: argparse.Namespace) -> int:
    """Checks, copies, divides, tells."""
    from nnunet_ext.outcomes.folds import what_a_fold_lacks
    from nnunet_ext.outcomes.targets import load_targets

    _refuse_lonely(args)
    if args.folds < 2:
        raise ValueError(f"--folds is {args.folds}; give at least 2.")
    if args.input:
        return _write_input(args)
    raw = _made_of_images(args) if args.images else find_dataset(RAW, args.d, "convert it")
    _stand_in(raw, None if args.images else args.stand_in)
    folder = _root(PREPROCESSED) / raw.name
    targets = load_targets(raw)
    _check(targets, raw)
    splits, origin = _splits(targets, raw, folder, args.folds, anew=args.new_splits)
    if not origin.startswith("made") and len(splits) != args.folds:
        origin += f" ({len(splits)} of them; --new-splits makes {args.folds})"
    kept = _write(raw, folder, splits)
    _tell(targets, splits, f"{folder}: targets copied; folds: {origin}.")
    for path in kept:
        print(f"The folds that were there are in {path}; models that were trained with them are not comparable.")
    lacking = list(what_a_fold_lacks(targets, splits))
    for part, sentence in lacking:
        print(f"{'Wrong' if part == 'train' else 'Note'}: {sentence}")
    return int(any(part == "train" for part, _ in lacking))


def _refuse_lonely(args: argparse.Namespace) -> None:
    """Refuses options that mean nothing without --images."""
    given = [name for name in ("name", "size", "levels", "input", "only") if getattr(args, name)]
    if given and not args.images:
        raise ValueError(f"--{given[0]} is for --images FOLDER; give that as well, or leave it out.")


def _made_of_images(args: argparse.Namespace) -> Path:
    """Writes the raw dataset and gives its folder."""
    from nnunet_ext.outcomes.images2d import TWIN, find_images
    from nnunet_ext.outcomes.pixels import write_dataset

    if args.size and min(args.size) < 1:
        raise ValueError(f"--size is {args.size[0]} {args.size[1]}; give rows and columns above 0.")
    source = find_images(args.images, args.levels, args.only)
    target = _target(args.d, args.name or args.images.resolve().name)
    if not source.inputs and len(levels := source.schema.columns[source.schema.stratify].levels) == 2:
        print(f"The positive class is {levels[1]}, the second of {', '.join(levels)}; --levels decides.")
    if source.others:
        print(f"{len(source.others)} files are no images and left out, such as {source.others[0]}.")
    size = tuple(args.size) if args.size else None
    check = partial(_check_source, folds=args.folds, where=str(args.images))
    bound = write_dataset(source, target, size, args.stand_in or "image", check)
    if bound:
        print(f"{bound} cases share an image with another and stay on its side of every split (column {TWIN}).")
    return target


def _check_source(source: "Source", channels: int, folds: int, where: str) -> None:
    """Refuses images whose targets make no dataset, while there is none."""
    from nnunet_ext.outcomes.columns import TABLE_FILE
    from nnunet_ext.outcomes.dataset import check_dataset
    from nnunet_ext.outcomes.folds import make_splits
    from nnunet_ext.outcomes.targets import Targets, checked

    targets = Targets(source.numbered(channels), {picture.case: picture.row for picture in source.pictures})
    checked(targets, str(Path(where, TABLE_FILE)))
    training, test = ([p.case for p in source.pictures if p.part == part] for part in ("Tr", "Ts"))
    names = {str(i): "" for i in range(channels * max(1, len(source.inputs)))}
    check_dataset(targets, training, test, names)
    make_splits(targets, folds)


def _write_input(args: argparse.Namespace) -> int:
    """Writes images that are to be predicted as the dataset has its own."""
    from nnunet_ext.outcomes.columns import SCHEMA_FILE, load_schema
    from nnunet_ext.outcomes.images2d import find_inputs
    from nnunet_ext.outcomes.pixels import write_input

    raw = find_dataset(RAW, args.d, "make it with --images")
    dataset = _dataset_json(raw)
    if dataset.get("file_ending") != ".png":
        raise ValueError(f"{raw} is no dataset of plain images; name its images CASE_0000 and so on yourself.")
    inputs = tuple(load_schema(raw / SCHEMA_FILE).inputs)
    pictures = find_inputs(args.images, inputs)
    write_input(pictures, args.input, dataset, max(1, len(inputs)))
    print(f"{len(pictures)} cases in {args.input}")
    return 0


def _target(number: str, name: str) -> Path:
    """The folder of a new dataset, whose number no other dataset has."""
    if not number.isdecimal() or not 0 < int(number) < 1000:
        raise ValueError(f"-d is {number}; a new dataset needs a number from 1 to 999.")
    if not re.fullmatch(r"[A-Za-z0-9-]+(_[A-Za-z0-9-]+)*", name):
        raise ValueError(f"The name {name!r} is none for a dataset; give --name of letters, digits, - and single _.")
    target = _root(RAW) / f"Dataset{int(number):03d}_{name}"
    for variable in (RAW, PREPROCESSED, "nnUNet_results"):
        others = sorted(Path(os.environ.get(variable) or os.devnull).glob(f"Dataset{int(number):03d}_*"))
        if other := next((path for path in others if path.name != target.name), None):
            raise ValueError(f"The number {number} is taken by {other}; choose another -d.")
    return target


def _stand_in(raw: Path, kind: str | None) -> None:
    """Writes what stands in for segmentations where a dataset has none; refuses to replace any."""
    there = (raw / "labelsTr").is_dir() or "dataset" in _dataset_json(raw)
    if not there and kind is None:
        raise ValueError(f"{raw} has no labelsTr, without which nnU-Net preprocesses nothing; give --stand-in.")
    if there and kind:
        raise ValueError(f"--stand-in is {kind}, and {raw} has segmentations; leave it out.")
    if kind:
        from nnunet_ext.outcomes.stand_ins import write_stand_ins

        write_stand_ins(raw, _dataset_json(raw), kind)


def _root(variable: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        raise ValueError(f"{variable} is not set; `nnunet_ext env` tells how to set it.")
    return Path(value)


def _check(targets: "Targets", raw: Path) -> None:
    """Refuses targets of other cases or channels than the raw dataset's."""
    from nnunet_ext.outcomes.dataset import check_dataset

    dataset = _dataset_json(raw)
    check_dataset(targets, _cases(raw, "Tr", dataset), _cases(raw, "Ts", dataset), dataset.get("channel_names", {}))


def _dataset_json(raw: Path) -> dict[str, Any]:
    path = raw / "dataset.json"
    if not path.is_file():
        raise ValueError(f"{raw} has no dataset.json, so it is no dataset of nnU-Net; convert it.")
    found: dict[str, Any] = _read(path)
    return found


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}); mend it.") from error


def _cases(raw: Path, part: str, dataset: dict[str, Any]) -> list[str]:
    """The cases of imagesTr or imagesTs; those that dataset.json lists, where it does."""
    from nnunet_ext.images.folder import cases_of

    if part == "Tr" and "dataset" in dataset:
        return list(dataset["dataset"])
    folder = raw / f"images{part}"
    if part == "Ts" and not (folder.is_dir() and any(folder.iterdir())):
        return []
    if not folder.is_dir():
        raise ValueError(f"{raw} has no folder {folder.name}; convert it.")
    return list(cases_of(folder, dataset.get("file_ending", ".nii.gz")))


def _splits(targets: "Targets", raw: Path, folder: Path, folds: int, *, anew: bool) -> tuple[list["Split"], str]:
    """The folds that are there, or new ones, and where they are from."""
    from nnunet_ext.outcomes.folds import check_splits, make_splits

    there = next((f / SPLITS_FILE for f in (folder, raw) if (f / SPLITS_FILE).is_file()), None)
    if there is None or anew:
        return make_splits(targets, folds), f"made, stratified by {targets.schema.stratify}"
    return check_splits(targets, _read(there), str(there)), f"those of {there}"


def _write(raw: Path, folder: Path, splits: list["Split"]) -> list[Path]:
    """Copies targets and writes folds, each file whole or not at all; gives where former folds went."""
    from nnunet_ext.evaluation.table import whole
    from nnunet_ext.outcomes.columns import SCHEMA_FILE, TABLE_FILE

    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(splits, indent=4) + "\n"
    # the planner of nnU-Net stops where the folds beside the images are others
    places = [place / SPLITS_FILE for place in (folder, raw) if place == folder or (place / SPLITS_FILE).is_file()]
    changed = [path for path in places if not path.is_file() or _read(path) != splits]
    kept = [_kept(path) for path in changed if path.is_file()]
    for path in changed:
        whole(path, text)
    for name in (TABLE_FILE, SCHEMA_FILE):
        whole(folder / name, (raw / name).read_text(encoding="utf-8-sig"))
    return kept


def _kept(path: Path) -> Path:
    """A copy of former folds, under the first name that is free."""
    number = next(n for n in range(1, 1000) if not path.with_suffix(f".{n}.json").exists())
    return Path(shutil.copy2(path, path.with_suffix(f".{number}.json")))


def _tell(targets: "Targets", splits: list["Split"], first: str) -> None:
    from nnunet_ext.outcomes.summary import columns_table, folds_table, what_few_cases_show, what_is_not_used

    print(first)
    print(aligned(columns_table(targets)))
    patients = len(set(targets.groups.values()))
    print(f"{len(targets.rows)} cases of {patients} patients, {len(targets.test_cases)} of them for testing only")
    undeclared = [name for name in next(iter(targets.rows.values())) if name not in {*targets.schema.declared, "set"}]
    if undeclared:
        print(f"Not declared in targets.json, so not used: {', '.join(undeclared)}")
    print(aligned(folds_table(targets, splits)))
    for sentence in (*what_is_not_used(targets, splits), *what_few_cases_show(targets)):
        print(sentence)
