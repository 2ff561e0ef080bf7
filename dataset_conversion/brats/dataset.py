"""The nnU-Net raw dataset that a conversion writes: its options, folders, tables, and what may not be overwritten."""

import csv
import io
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataset_conversion.brats.discovery import Case
from dataset_conversion.brats.editions import CAVITY, MODALITIES, Edition
from dataset_conversion.brats.files import read_json, write_whole
from dataset_conversion.brats.problem import Problem
from dataset_conversion.brats.record import Report
from dataset_conversion.brats.splits import Split

REGIONS: dict[str, int | list[int]] = {
    "background": 0, "whole tumor": [1, 2, 3], "tumor core": [1, 3], "enhancing tumor": [3]
}  # fmt: skip
# painted one over the other: what is left of the whole tumour is edema (2), of the core necrosis (1)
REGIONS_CLASS_ORDER = [2, 1, 3]
LABELS = {"background": 0, "necrotic tumor core": 1, "edema": 2, "enhancing tumor": 3}
CAVITY_NAME = "resection cavity"
"""Beside the tumour and no part of it, so of none of its regions."""
CHANNELS = {str(index): name for index, name in enumerate(MODALITIES)}
FOLDERS = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
QUOTES = ("'", '"')


@dataclass(frozen=True)
class Options:
    """What decides about the content of a dataset.

    ``labelled`` is false for a tree without segmentations, which becomes an input folder; ``clip_percentiles`` is
    (low, high) in percent, or None.
    """

    edition: str
    labelled: bool
    regions: bool
    test_fraction: float
    clip_percentiles: tuple[float, float] | None
    file_ending: str

    def as_json(self) -> dict[str, Any]:
        """The options as they come back from a JSON file."""
        return {**vars(self), "clip_percentiles": self.clip_percentiles and list(self.clip_percentiles)}


def folder_of(variable: str) -> Path | None:
    """nnU-Net's folder that an environment variable names; None where it is not set.

    Raises:
        ValueError: if it holds quotes or no absolute path: nnU-Net takes it as it is and would look elsewhere.
    """
    value = os.environ.get(variable)
    if not value:
        return None
    if value.startswith(QUOTES) or value.endswith(QUOTES):
        raise ValueError(f"{variable} is {value}, quotes included; set it again without them.")
    if not Path(value).is_absolute():
        raise ValueError(f"{variable} is {value!r}, another folder for every folder you work in; set an absolute path.")
    return Path(value).resolve()


def raw_folder() -> Path:
    """nnU-Net's folder of raw datasets; ValueError where it is not set."""
    folder = folder_of("nnUNet_raw")
    if folder is None:
        raise ValueError('nnUNet_raw is not set; run eval "$(nnunet_ext env --root DIR)" or export it yourself.')
    return folder


def target_folder(dataset_id: int, name: str) -> Path:
    """Folder of the dataset; ValueError if nnU-Net's folders know the number by another name."""
    if not 0 < dataset_id < 1000:
        raise ValueError(f"--dataset-id is {dataset_id}; nnU-Net's datasets have numbers from 1 to 999.")
    if not re.fullmatch(r"[A-Za-z0-9-]+(_[A-Za-z0-9-]+)*", name):
        raise ValueError(f"--name is {name!r}; use letters, digits, hyphens and single underscores.")
    target = raw_folder() / f"Dataset{dataset_id:03d}_{name}"
    for folder in filter(None, map(folder_of, FOLDERS)):
        others = sorted(path.name for path in folder.glob(f"Dataset{dataset_id:03d}_*") if path.name != target.name)
        if others:
            raise ValueError(
                f"The number {dataset_id} is taken by {others[0]} in {folder}; choose another --dataset-id."
            )
    return target


def read_like(like: str) -> tuple[tuple[float, float] | None, str]:
    """Clipping and file ending of the dataset ``like``: a number, a name in nnUNet_raw, or a folder.

    A trained model's folder does as well: its dataset.json is a copy.

    Raises:
        ValueError: if there is no such dataset, or its channels are not ours.
    """
    folder = Path(like)
    if not (folder / "dataset.json").is_file():
        pattern = f"Dataset{int(like):03d}_*" if like.isdecimal() else like
        folder = next(iter(sorted(raw_folder().glob(pattern))), folder)
    path = folder / "dataset.json"
    if not path.is_file():
        raise ValueError(f"--like is {like}; give a dataset's number or name in {raw_folder()}, or its folder.")
    dataset = read_json(path)
    if dataset.get("channel_names") != CHANNELS:
        channels = ", ".join(dataset.get("channel_names", {}).values()) or "none"
        raise ValueError(f"{path} has the channels {channels}, this converter makes {', '.join(MODALITIES)}.")
    limits = dataset.get("clip_percentiles")
    return (limits[0], limits[1]) if limits else None, dataset.get("file_ending", ".nii.gz")


def check_splits(target: Path, splits: list[Split]) -> None:
    """Refuse (ValueError) if nnUNet_preprocessed holds other splits: models may have been trained with them."""
    folder = folder_of("nnUNet_preprocessed")
    there = folder and folder / target.name / "splits_final.json"
    if there and there.is_file() and read_json(there) != splits:
        raise ValueError(f"{there} holds another split; choose another --dataset-id, or remove it and its models.")


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file as nnU-Net indents its own, whole or not at all."""
    write_whole(path, (json.dumps(content, indent=4) + "\n").encode())


def _write_table(path: Path, header: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(header)
    table.writerows(rows)
    write_whole(path, text.getvalue().encode("utf-8", "surrogateescape"))  # a path need not be text


def write_cases(
    target: Path, cases: Mapping[str, Case], reports: Mapping[str, Report], test: set[str], edition: Edition
) -> None:
    """Write ``cases.csv``: what each case is, where it came from and what is in it."""
    columns = [f"voxels_{label}" for label in edition.ours]
    header = ("case", "patient", "grade", "edition", "set", *columns, "source", "checksum")
    rows = []
    for name, case in cases.items():
        voxels = [reports[name].voxels.get(label, "") for label in edition.ours]
        source = next(iter(case.files.values()))[0].parent
        part = "Ts" if name in test else "Tr"
        rows.append([name, case.patient, case.grade, edition.name, part, *voxels, source, reports[name].checksum])
    _write_table(target / "cases.csv", header, rows)


def write_skipped(target: Path, problems: list[Problem]) -> None:
    """Write ``skipped.csv``: what ``--skip-bad`` left out, and why."""
    rows = [(problem.case, problem.file, problem.text, problem.remedy) for problem in problems]
    _write_table(target / "skipped.csv", ("case", "file", "problem", "remedy"), rows)


def dataset_json(name: str, edition: Edition, options: Options, training: int) -> dict[str, Any]:
    """Content of ``dataset.json``: nnU-Net's keys, and ours (edition, clip_percentiles), which nnU-Net passes on."""
    cavity = CAVITY in edition.ours
    content: dict[str, Any] = {"name": name, "edition": edition.name, "channel_names": CHANNELS}
    if options.regions:
        content["labels"] = REGIONS | ({CAVITY_NAME: [CAVITY]} if cavity else {})
        content["regions_class_order"] = REGIONS_CLASS_ORDER + ([CAVITY] if cavity else [])
    else:
        content["labels"] = LABELS | ({CAVITY_NAME: CAVITY} if cavity else {})
    content |= {"numTraining": training, "file_ending": options.file_ending}
    if options.clip_percentiles:
        content["clip_percentiles"] = list(options.clip_percentiles)
    return content
