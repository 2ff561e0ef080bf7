"""A raw dataset of nnU-Net from plain 2D images, which have targets and no segmentation.

Two forms of source: a folder with a folder of images for each class; or a folder with ``targets.csv`` and
``targets.json`` in which the table has, beside its other columns, the file of each image: the column ``image``, or a
column for each of the schema's inputs (``"inputs": ["frontal", "lateral"]``, in which case a case is several images).

nnU-Net's NaturalImage2DIO reads what is written: PNG, 8 bits in colour or grey, or 16 bits in grey.
"""

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from nnunet_ext.outcomes.columns import CASE, CLASS, SCHEMA_FILE, SET, TABLE_FILE, Column, Schema, schema_from
from nnunet_ext.outcomes.tables import TEST, Row, read_table
from nnunet_ext.outcomes.targets import bound

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
IMAGE = "image"
"""The column of the file's name where a case is one image."""
LEVEL_COLUMN = "class"
"""The target that folders of classes make."""
TWIN = "same_image"
"""Group of the cases that share an image: its values are names of cases."""


@dataclass(frozen=True)
class Picture:
    """A case of plain images.

    Attributes:
        case: its name in the dataset.
        files: one for each input.
        row: its cells of the table, without the names of the files.
    """

    case: str
    files: tuple[Path, ...]
    row: Row

    @property
    def part(self) -> str:
        """``Tr`` or ``Ts``, the end of the name of nnU-Net's folder."""
        return "Ts" if self.row.get(SET) == TEST else "Tr"


@dataclass(frozen=True)
class Source:
    """What a folder of images holds.

    Attributes:
        schema: its channels are not numbered yet.
        inputs: their names; of an only one empty.
        pictures: in the order of the table, or of the files' names.
        others: files that are no images.
    """

    schema: Schema
    inputs: tuple[str, ...]
    pictures: tuple[Picture, ...]
    others: tuple[Path, ...]

    def numbered(self, channels: int) -> Schema:
        """The schema, where each image has so many channels."""
        starts = {name: index * channels for index, name in enumerate(self.inputs)}
        return replace(self.schema, inputs={name: tuple(range(s, s + channels)) for name, s in starts.items()})


def find_images(folder: Path, levels: Sequence[str] = (), only: Sequence[str] = ()) -> Source:
    """What is in a folder of images.

    Args:
        folder: of either form.
        levels: of a folder of classes: their order; of two, the second is the positive one. Alphabetical if empty.
        only: of a table: those of the schema's inputs that are wanted; all of them if empty.

    Raises:
        ValueError: no such folder, no image, an image that is missing, two cases of one name, levels that are not the
            folders, or inputs that the schema does not have.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder; give one with images.")
    if (folder / TABLE_FILE).is_file():
        source = _by_table(folder, levels, only)
    elif only:
        raise ValueError(f"--only chooses among the inputs of a table, and {folder} has no {TABLE_FILE}; leave it out.")
    else:
        source = _by_folders(folder, levels)
    _refuse_equal_names(source.pictures)
    return source


def find_inputs(folder: Path, inputs: Sequence[str] = ()) -> tuple[Picture, ...]:
    """The images in a folder that are to be predicted: all below it, or those that its ``targets.csv`` names.

    Args:
        folder: of the images.
        inputs: names of a case's images, which are columns of the table; empty where a case is one image.

    Raises:
        ValueError: as :func:`find_images`; or a case has several images and there is no table.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder; give one with images.")
    if (folder / TABLE_FILE).is_file():
        pictures = _pictures(folder, inputs)
    elif inputs:
        raise ValueError(
            f"{folder} has no {TABLE_FILE}, and a case has the images {', '.join(inputs)}; write one with these "
            "columns."
        )
    else:
        pictures = tuple(
            Picture(_case(_below(file, folder)), (file,), {}) for file in sorted(_files(folder)) if is_image(file)
        )
    if not pictures:
        raise ValueError(f"{folder} has no image; give a folder with {', '.join(ENDINGS)}.")
    _refuse_equal_names(pictures)
    return pictures


def _refuse_equal_names(pictures: Sequence[Picture]) -> None:
    names: dict[str, Picture] = {}
    for picture in pictures:
        twin = names.setdefault(picture.case, picture)
        if twin is not picture:
            raise ValueError(
                f"{twin.files[0]} and {picture.files[0]} would both be the case {picture.case}; rename one of them."
            )


def _by_folders(folder: Path, levels: Sequence[str]) -> Source:
    found = {path.name: sorted(_files(path)) for path in sorted(folder.iterdir()) if path.is_dir()}
    images = {name: [file for file in files if is_image(file)] for name, files in found.items()}
    images = {name: files for name, files in images.items() if files}
    if len(images) < 2:
        raise ValueError(
            f"{folder} has {len(images)} folders with images and no {TABLE_FILE}; give one folder for each class, or a "
            "table (docs/outcomes.md)."
        )
    if levels and sorted(levels) != sorted(images):
        raise ValueError(f"--levels are {', '.join(levels)}, and the folders {', '.join(images)}; name each once.")
    others = [*filter(Path.is_file, folder.iterdir()), *chain.from_iterable(found.values())]
    pictures = [
        Picture(_case(f"{level}_{_below(file, folder / level)}"), (file,), {LEVEL_COLUMN: level})
        for level, files in images.items()
        for file in files
    ]
    schema = Schema({LEVEL_COLUMN: Column(LEVEL_COLUMN, CLASS, tuple(levels or images))}, stratify=LEVEL_COLUMN)
    return Source(schema, (), tuple(pictures), tuple(file for file in others if not is_image(file)))


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))


def is_image(path: Path) -> bool:
    """Whether the ending is one that is read."""
    return path.suffix.lower() in ENDINGS and not path.name.startswith(".")


def _below(file: Path, folder: Path) -> str:
    return "-".join(file.relative_to(folder).with_suffix("").parts)


def _case(name: str) -> str:
    """A name for files that no program stumbles over."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name)


def _by_table(folder: Path, levels: Sequence[str], only: Sequence[str]) -> Source:
    if levels:
        raise ValueError(f"--levels orders folders of classes, and {folder} has a {TABLE_FILE}; declare them there.")
    schema, inputs = _schema(folder / SCHEMA_FILE)
    unknown = [name for name in only if name not in inputs]
    if unknown:
        raise ValueError(
            f"--only names {', '.join(unknown)}, and the inputs of {folder / SCHEMA_FILE} are "
            f"{', '.join(inputs) or 'not declared'}; choose among them."
        )
    chosen = tuple(name for name in inputs if name in (only or inputs))
    return Source(schema, chosen, _pictures(folder, chosen, inputs), ())


def _pictures(folder: Path, inputs: Sequence[str], files_of: Sequence[str] = ()) -> tuple[Picture, ...]:
    """The cases of a folder's table, of which the columns ``files_of`` hold files as well."""
    columns = inputs or (IMAGE,)
    pictures = []
    for case, row in read_table(folder / TABLE_FILE).items():
        lacking = next((column for column in columns if not row.get(column)), None)
        if lacking is not None:
            raise ValueError(f"{folder / TABLE_FILE}, case {case} names no file in the column {lacking}; fill it.")
        files = tuple(folder / row[column] for column in columns)
        absent = next((file for file in files if not file.is_file() or not is_image(file)), None)
        if absent is not None:
            raise ValueError(f"{absent}, an image of the case {case}, is not there or no {', '.join(ENDINGS)}.")
        cells = {name: text for name, text in row.items() if name not in {*columns, *files_of}}
        pictures.append(Picture(_case(case), files, cells))
    return tuple(pictures)


def _schema(path: Path) -> tuple[Schema, tuple[str, ...]]:
    """The schema, and the names of its inputs, which may be a list here: their channels follow from the images."""
    if not path.is_file():
        raise ValueError(f"There is no {path}; write one as docs/outcomes.md describes it.")
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}); mend it.") from error
    inputs = content.pop("inputs", []) if isinstance(content, dict) else []
    names = list(inputs)
    if not all(isinstance(name, str) and name for name in names) or len(set(names)) < len(names):
        raise ValueError(f'{path}, "inputs" is {json.dumps(inputs)}; give a list of different names.')
    return schema_from(content, str(path)), tuple(names)


def with_twins(source: Source, digests: Mapping[str, Sequence[str]]) -> Source:
    """The source with a column that binds cases of equal images, where there are any: no fold parts them then.

    Args:
        source: what was found.
        digests: case -> digest of the pixels of each of its images.

    Raises:
        ValueError: a case is one image, and equal images have different levels of the target that is stratified.
    """
    leader = bound(digests)
    if all(case == first for case, first in leader.items()):
        return source
    if not source.inputs and source.schema.columns[source.schema.stratify].is_discrete:
        _refuse_two_levels(source, leader)
    pictures = tuple(replace(p, row={**p.row, TWIN: leader[p.case]}) for p in source.pictures)
    return replace(source, pictures=pictures, schema=replace(source.schema, groups=(*source.schema.groups, TWIN)))


def _refuse_two_levels(source: Source, leader: Mapping[str, str]) -> None:
    pictures = {picture.case: picture for picture in source.pictures}
    name = source.schema.stratify
    for picture in source.pictures:
        twin = pictures[leader[picture.case]]
        if twin.row.get(name) != picture.row.get(name):
            raise ValueError(
                f"{twin.files[0]} and {picture.files[0]} are the same image, of different {name}; remove one of them."
            )


def table_of(pictures: Iterable[Picture]) -> str:
    """``targets.csv`` of the pictures."""
    rows = [{CASE: picture.case, **picture.row} for picture in pictures]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
