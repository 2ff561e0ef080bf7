"""Folders and tables of images that are refused: one sentence, and nothing is left."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.outcomes.pictures import PAIRS, PAIRS_SCHEMA, picture
from tests.outcomes.test_images2d import run


def same(folder: Path) -> None:
    Image.open(folder / "ok" / "im 0.png").save(folder / "defect" / "x.png")


def cut(folder: Path) -> None:
    path = folder / "ok" / "im 1.png"
    path.write_bytes(path.read_bytes()[:200])


def no_image(folder: Path) -> None:
    (folder / "ok" / "im 1.png").write_text("text")


def black(folder: Path) -> None:
    Image.new("RGB", (4, 4)).save(folder / "ok" / "im 1.png")


def deep(folder: Path) -> None:
    picture(folder / "ok" / "im 1.png", 0, (4, 4), np.uint16)


def clash(folder: Path) -> None:
    picture(folder / "ok" / "im-1.png", 99)


def one_class(folder: Path) -> None:
    for path in (folder / "defect" / "deep").iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("spoil", "options", "said"),
    [
        (same, (), "are the same image, of different class; remove one"),
        (cut, (), "im 1.png is damaged"),
        (no_image, (), "im 1.png is no image that can be read"),
        (black, (), "im 1.png is zero everywhere"),
        (deep, (), "16 bits of grey; nnU-Net needs one kind"),
        (clash, (), "would both be the case ok_im-1; rename one"),
        (one_class, (), "has 1 folders with images and no targets.csv"),
        (None, ("--levels", "ok", "fine"), "--levels are ok, fine, and the folders defect, ok"),
        (None, ("--size", "0", "3"), "--size is 0 3; give"),
        (None, ("--name", "a/b"), "'a/b' is none for a dataset"),
        (None, ("-d", "1000"), "-d is 1000; a new dataset needs a number"),
        (None, ("-d", "Dataset601_Photos"), "a new dataset needs a number"),
        (None, ("--images", "nowhere"), "nowhere is no folder"),
        (None, ("--only", "lateral"), "--only chooses among the inputs of a table"),
    ],
)
def test_what_is_refused_leaves_nothing(spoil, options, said, photos, roots, capsys):
    if spoil:
        spoil(photos)
    assert run(photos, *options) == 2
    err = [line for line in capsys.readouterr().err.splitlines() if line.startswith("nnunet_ext")]
    assert len(err) == 1
    assert said in err[0]
    assert not (roots / "raw").exists() or not any((roots / "raw").iterdir())


def other_size(folder: Path) -> None:
    picture(folder / "l" / "2.png", 0, (5, 5, 3))


def no_file(folder: Path) -> None:
    (folder / "l" / "2.png").unlink()


def no_cell(folder: Path) -> None:
    (folder / "targets.csv").write_text(PAIRS.replace("l/2.png", ""))


def decimals(folder: Path) -> None:
    image = folder / "ok" / "im 1.png"
    Image.fromarray(np.full((12, 10), 0.5, np.float32)).save(image.with_suffix(".tif"))
    image.unlink()


def pages(folder: Path) -> None:
    image = folder / "ok" / "im 1.png"
    one = Image.open(image)
    one.save(image.with_suffix(".tif"), save_all=True, append_images=[one.rotate(90)])
    image.unlink()


def large(folder: Path) -> None:
    for image in [*folder.rglob("*.png"), *folder.rglob("*.bmp")]:
        Image.fromarray(np.arange(120, dtype=np.int32).reshape(12, 10) + 65530).save(image.with_suffix(".tif"))
        image.unlink()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (decimals, "im 1.tif holds numbers with decimals"),
        (pages, "im 1.tif has 2 pages"),
        (large, "has values from 65530 to 65649, and 16 bits hold 0 to 65535"),
    ],
)
def test_pixels_that_png_cannot_hold_are_refused(spoil, said, photos, roots, capsys):
    spoil(photos)
    assert run(photos) == 2
    assert said in capsys.readouterr().err
    assert not any((roots / "raw").glob("*"))


def two_sides(folder: Path) -> None:
    (folder / "targets.csv").write_text(PAIRS.replace("l/7.png,p3", "l/7.png,p0"))


def no_number(folder: Path) -> None:
    (folder / "targets.csv").write_text(PAIRS.replace("p0,1,51", "p0,1_0,51"))


def channels(folder: Path) -> None:
    (folder / "targets.json").write_text(json.dumps({**PAIRS_SCHEMA, "inputs": ["frontal", "frontal"]}))


def no_schema(folder: Path) -> None:
    (folder / "targets.json").unlink()


@pytest.mark.parametrize(
    ("spoil", "options", "said"),
    [
        (other_size, (), "images of the case c2 have 12 x 10 and 5 x 5 pixels"),
        (no_file, (), "l/2.png, an image of the case c2, is not there"),
        (no_cell, (), "case c2 names no file in the column lateral"),
        (channels, (), "give a list of different names"),
        (no_schema, (), "targets.json; write one"),
        (two_sides, (), "are of one patient; put them on one side"),
        (no_number, (), "targets.csv, case c1, column value: '1_0' is no number"),
        (None, ("--folds", "1"), "--folds is 1; give at least 2"),
        (None, ("--levels", "a", "b"), "--levels orders folders of classes"),
        (None, ("--only", "lateral", "dorsal"), "--only names dorsal, and the inputs of"),
    ],
)
def test_what_is_refused_of_a_table(spoil, options, said, pairs, roots, capsys):
    if spoil:
        spoil(pairs)
    assert run(pairs, *options) == 2
    assert said in capsys.readouterr().err
    assert not (roots / "raw").exists() or not any((roots / "raw").iterdir())
