"""Pixels of plain images: read, brought to one kind and size, written as nnU-Net's NaturalImage2DIO reads them."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from scipy.ndimage import find_objects
from tqdm import tqdm

from nnunet_ext.outcomes.columns import SCHEMA_FILE, TABLE_FILE
from nnunet_ext.outcomes.images2d import TWIN, Picture, Source, table_of, with_twins
from nnunet_ext.whole import folder_aside

GREY, DEEP = ("1", "L", "LA", "I;16", "I;16B", "I"), ("I;16", "I;16B", "I")
"""Modes of Pillow: without colour, and with more than 8 bits."""
STAND_INS = ("image", "box")
"""What stands in for a segmentation: the whole image, or the box around all that is not zero."""
LABELS = {"background": 0, "image": 1}
COLOUR_NAME, DEEP_NAME = "rgb_to_0_1", "grey"
"""Names of channels by which nnU-Net chooses the normalisation: division by 255, or the z-score of each image."""
SIZE = "image_size"
"""Key of dataset.json: rows and columns that all images were resampled to, and those to be predicted will be."""
Pixels = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True)
class Kind:
    """What all images of a dataset become.

    Attributes:
        colour: three channels; else one.
        deep: 16 bits, which only grey images have.
        size: rows and columns, to which each is resampled; None where they stay as they are.
    """

    colour: bool
    deep: bool
    size: tuple[int, int] | None

    @property
    def channels(self) -> int:
        """Of one image."""
        return 3 if self.colour else 1


def kind_of(source: Source, size: tuple[int, int] | None) -> Kind:
    """The kind that holds all images of the source: grey if all are grey.

    Raises:
        ValueError: a file is no image, or images in colour stand beside grey ones of 16 bits.
    """
    modes = {file: _mode(file) for picture in source.pictures for file in picture.files}
    coloured = next((file for file, mode in modes.items() if mode not in GREY), None)
    deep = next((file for file, mode in modes.items() if mode in DEEP), None)
    if coloured and deep:
        raise ValueError(
            f"{coloured} has colour and {deep} 16 bits of grey; nnU-Net needs one kind, convert one of them."
        )
    return Kind(coloured is not None, deep is not None, size)


def _mode(file: Path) -> str:
    try:
        with Image.open(file) as image:
            mode, pages = image.mode, getattr(image, "n_frames", 1)
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"{file} is no image that can be read ({error}); replace or remove it.") from error
    if pages > 1:
        raise ValueError(f"{file} has {pages} pages, and a case is one image; save each as a file of its own.")
    if mode == "F":
        raise ValueError(f"{file} holds numbers with decimals, which PNG cannot; scale them to 8 or 16 bits.")
    return mode


def read_pixels(file: Path, kind: Kind) -> Pixels:
    """An image as its kind has it: (rows, columns) or (rows, columns, 3), the way up that its camera noted.

    Raises:
        ValueError: it is cut off or damaged, or zero everywhere: nnU-Net would find nothing in it.
    """
    try:
        with Image.open(file) as opened:
            image = ImageOps.exif_transpose(opened)
            if not kind.deep:
                image = image.convert("RGB" if kind.colour else "L")
            pixels = np.asarray(image)
    except (OSError, SyntaxError) as error:  # Pillow's errors of damaged files
        raise ValueError(f"{file} is damaged ({error}); replace or remove it.") from error
    if kind.deep:
        if pixels.min() < 0 or pixels.max() >= 2**16:
            raise ValueError(
                f"{file} has values from {pixels.min()} to {pixels.max()}, and 16 bits hold 0 to 65535; scale them."
            )
        pixels = pixels.astype(np.uint16)
    if kind.size:
        pixels = _resampled(pixels, kind.size)
    if not pixels.any():
        raise ValueError(f"{file} is zero everywhere; replace or remove it.")
    return pixels


def _resampled(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    if pixels.dtype == np.uint8:
        return np.asarray(Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BILINEAR))
    floating = Image.fromarray(pixels.astype(np.float32)).resize(size[::-1], Image.Resampling.BILINEAR)
    return np.rint(np.asarray(floating)).astype(np.uint16)


def stand_in(inside: NDArray[np.bool_], kind: str) -> NDArray[np.uint8]:
    """What stands in for a segmentation: 1 in the whole image, or in the box around all that is not zero, else 0.

    Args:
        inside: where an image of the case is not zero, of any number of axes and somewhere true.
        kind: one of STAND_INS.
    """
    mask = np.zeros(inside.shape, np.uint8)
    mask[find_objects(inside.astype(np.uint8))[0] if kind == "box" else ...] = 1
    return mask


def write_dataset(
    source: Source,
    target: Path,
    size: tuple[int, int] | None = None,
    mask: str = "image",
    check: Callable[[Source, int], None] = lambda source, channels: None,
) -> int:
    """Write a raw dataset with its targets; all of it or nothing.

    Args:
        source: of the images.
        target: folder of the dataset, which does not exist.
        size: rows and columns that each image is resampled to (bilinear); None leaves them.
        mask: what stands in for the segmentation, one of STAND_INS.
        check: of the source and the channels of an image, before the dataset appears; raises what it refuses.

    Returns:
        The number of cases that share an image with an earlier one.

    Raises:
        ValueError: an image cannot be read, the images of a case differ in size, equal images are of different levels,
            or the dataset is there.
    """
    if target.exists():
        raise ValueError(f"{target} is there already; remove it to make it anew, or choose another number.")
    kind = kind_of(source, size)
    with folder_aside(target) as folder:
        for part in ("imagesTr", "labelsTr", *({"imagesTs"} if any(p.part == "Ts" for p in source.pictures) else ())):
            (folder / part).mkdir()
        written = _for_all(source.pictures, partial(_write_case, folder=folder, kind=kind, mask=mask))
        found = with_twins(source, dict(zip((p.case for p in source.pictures), written, strict=True)))
        check(found, kind.channels)
        _write_tables(found, folder, target.name, kind)
        folder.replace(target)
    return sum(picture.row.get(TWIN, picture.case) != picture.case for picture in found.pictures)


def write_input(pictures: Sequence[Picture], out: Path, dataset: Mapping[str, Any], inputs: int) -> None:
    """Write images that are to be predicted as those of a dataset are: CASE_0000.png and so on; all or nothing.

    Args:
        pictures: the cases.
        out: a folder that does not exist, or is empty.
        dataset: dataset.json, as :func:`write_dataset` wrote it.
        inputs: number of images of a case.

    Raises:
        ValueError: as :func:`write_dataset`; or an image has colour, or 16 bits, and the dataset's have not.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} is no empty folder; give another, or remove it.")
    names = list(dataset["channel_names"].values())
    size = dataset.get(SIZE)
    kind = Kind(len(names) == 3 * inputs, DEEP_NAME in names, (size[0], size[1]) if size else None)
    for file in (file for picture in pictures for file in picture.files):
        mode = _mode(file)
        if (mode not in GREY and not kind.colour) or (mode in DEEP and not kind.deep):
            raise ValueError(f"{file} is of another kind ({mode}) than the dataset's images; convert it.")
    with folder_aside(out) as folder:
        _for_all(pictures, partial(_write_images, folder=folder, kind=kind))
        folder.replace(out)  # an empty folder may be there


def _for_all(pictures: Sequence[Picture], work: Callable[[Picture], list[str]]) -> list[list[str]]:
    with ThreadPoolExecutor() as pool:
        return list(tqdm(pool.map(work, pictures), "images", len(pictures), unit="case"))


def _write_case(picture: Picture, folder: Path, kind: Kind, mask: str) -> list[str]:
    """Write the files of a case of a dataset and give the digests of its images."""
    images = _read_case(picture, kind)
    if picture.part == "Tr":
        inside = np.logical_or.reduce([image.any(axis=-1) if kind.colour else image > 0 for image in images])
        _save(stand_in(inside, mask), folder / "labelsTr" / f"{picture.case}.png")
    return _write_images(picture, folder / f"images{picture.part}", kind, images)


def _write_images(picture: Picture, folder: Path, kind: Kind, images: Sequence[Pixels] | None = None) -> list[str]:
    """Write the images of a case and give their digests."""
    images = _read_case(picture, kind) if images is None else images
    for number, image in enumerate(images):
        _save(image, folder / f"{picture.case}_{number:04d}.png")
    return [hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest() for image in images]


def _read_case(picture: Picture, kind: Kind) -> list[Pixels]:
    images = [read_pixels(file, kind) for file in picture.files]
    shapes = [image.shape[:2] for image in images]
    if len(set(shapes)) > 1:
        raise ValueError(
            f"The images of the case {picture.case} have {' and '.join(f'{h} x {w}' for h, w in shapes)} pixels, and "
            "nnU-Net needs channels of one size; give --size."
        )
    return images


def _save(pixels: Pixels, path: Path) -> None:
    Image.fromarray(pixels).save(path, compress_level=1)


def _write_tables(source: Source, folder: Path, name: str, kind: Kind) -> None:
    channels = kind.channels * max(1, len(source.inputs))
    training = sum(picture.part == "Tr" for picture in source.pictures)
    dataset = {
        "name": name,
        "channel_names": {str(i): DEEP_NAME if kind.deep else COLOUR_NAME for i in range(channels)},
        "labels": LABELS,
        "numTraining": training,
        "file_ending": ".png",
        "overwrite_image_reader_writer": "NaturalImage2DIO",
        **({SIZE: list(kind.size)} if kind.size else {}),
    }
    schema = source.numbered(kind.channels).as_dict()
    (folder / TABLE_FILE).write_text(table_of(source.pictures), encoding="utf-8")
    (folder / SCHEMA_FILE).write_text(json.dumps(schema, indent=2) + "\n", encoding="utf-8")
    (folder / "dataset.json").write_text(json.dumps(dataset, indent=4) + "\n", encoding="utf-8")
