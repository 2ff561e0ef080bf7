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
