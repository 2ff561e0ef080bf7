"""What is planted into phantoms and generated images is there to be found, and is the same for the same seed."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from dataset_conversion.brats.outcome import LARGEST, SMALLEST, plant
from dataset_conversion.brats.phantom import make_phantom
from dataset_conversion.commands.phantom import main as phantoms
from dataset_conversion.commands.phantom_images import main as images
from dataset_conversion.pictures.surface import photograph, smooth
from dataset_conversion.pictures.views import BASE, MALE, PER_DEPTH, PER_WIDTH, PER_YEAR, Person, pair, view
from nnunet_ext.outcomes.targets import load_targets

SHAPE = (32, 32, 32)


def test_the_radius_explains_the_days() -> None:
    outcomes = [plant(0, index) for index in range(600)]
    seen = [o for o in outcomes if not o.censored]
    radius, days = np.array([o.radius for o in seen]), np.array([o.days for o in seen])
    assert np.corrcoef(radius, days)[0, 1] ** 2 > 0.93
    assert SMALLEST <= radius.min() < radius.max() <= LARGEST
    thirds = [np.mean(days < 300), np.mean((days >= 300) & (days <= 450)), np.mean(days > 450)]
    assert min(thirds) > 0.27
    assert [o.censored for o in outcomes[:20]] == ([False] * 9 + [True]) * 2
    assert abs(np.corrcoef([o.low_grade for o in seen], radius)[0, 1]) < 0.1  # neither tells the other


def test_grade_and_days_can_be_seen() -> None:
    outcomes = [plant(3, index) for index in range(16)]
    made = [make_phantom(SHAPE, 3, index, outcome) for index, outcome in enumerate(outcomes)]
    assert [p.grade for p in made] == ["HGG", "LGG"] * 8
    assert [4 in p.labels for p in made] == [True, False] * 8
    volumes = [(p.labels > 0).sum() for p in made]
    assert np.corrcoef(np.cbrt(volumes), [o.radius for o in outcomes])[0, 1] > 0.9


def test_phantoms_without_outcomes_are_as_ever() -> None:
    """The option draws from a stream of its own."""
    plain, planted = make_phantom(SHAPE, 0, 0), make_phantom(SHAPE, 0, 0, plant(0, 0))
    assert plain.images.shape == planted.images.shape
    np.testing.assert_array_equal(
        plain.images[0] > 0, planted.images[0] > 0
    )  # the brain is the same, its tumour is not
    assert (plain.labels != planted.labels).any()


def test_the_tree_has_a_survival_table_that_becomes_targets(tmp_path: Path, convert: Any, raw: Path) -> None:
    for name in ("a", "b"):
        assert phantoms([str(tmp_path / name), "--cases", "10", "--shape", "16", "20", "18", "--outcomes"]) == 0
    files = [sorted(path.read_bytes() for path in (tmp_path / name).rglob("*.*")) for name in ("a", "b")]
    assert files[0] == files[1]
    assert convert(tmp_path / "a") == 0
    targets = load_targets(raw / "Dataset501_BraTS2018")
    assert list(targets.columns) == ["grade", "survival_class", "days"]
    assert [targets.encoded("days", case) for case in targets.rows] == [plant(0, index).days for index in range(10)]
    assert sum(not targets.observed("days", case) for case in targets.rows) == 1


def test_an_edition_without_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        phantoms([str(tmp_path / "a"), "--outcomes", "--edition", "2021"])
    assert "take --edition 2018" in capsys.readouterr().err


def test_photographs_of_two_classes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert images(["defects", str(tmp_path / name), "--images", "5", "--size", "40"]) == 0
    there = {str(p.relative_to(tmp_path / "a")): p.read_bytes() for p in (tmp_path / "a").rglob("*.*")}
    assert there == {str(p.relative_to(tmp_path / "b")): p.read_bytes() for p in (tmp_path / "b").rglob("*.*")}
    assert sorted(there) == [f"defect/0000{i}.png" for i in (1, 3)] + [f"ok/0000{i}.png" for i in (0, 2, 4)]
    pixels = np.asarray(Image.open(tmp_path / "a" / "ok" / "00002.png"))
    assert pixels.shape == (40, 40, 3)
    assert pixels.dtype == np.uint8


def test_a_defect_is_dark_and_sharp() -> None:
    """What is darker than its surroundings tells defects from seams, stains and texture."""

    def darkest(index: int, *, defect: bool) -> float:
        grey = photograph(np.random.default_rng([5, index]), 128, defect).mean(axis=-1)
        return float(np.percentile(gaussian_filter(grey, 0.7) - gaussian_filter(grey, 5), 0.1))

    sound = [darkest(i, defect=False) for i in range(20)]
    broken = [darkest(100 + i, defect=True) for i in range(20)]
    assert np.mean([b < s for b in broken for s in sound]) > 0.9


def test_pairs_make_a_dataset_with_patients_kept_for_testing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nnunet_ext.cli import main

    options = ["--patients", "6", "--pairs", "2", "--test", "2", "--size", "32"]
    assert images(["pairs", str(tmp_path / "pairs"), *options]) == 0
    with (tmp_path / "pairs" / "targets.csv").open(newline="") as file:
        assert [row["set"] for row in csv.DictReader(file)] == ["train"] * 8 + ["test"] * 4
    for kind in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{kind}", str(tmp_path / kind))
    assert main(["targets", "-d", "602", "--images", str(tmp_path / "pairs"), "--folds", "2"]) == 0
    targets = load_targets(tmp_path / "preprocessed" / "Dataset602_pairs")
    assert len(targets.training_cases) == 8
    assert len(set(targets.groups.values())) == 6
    splits = json.loads((tmp_path / "preprocessed" / "Dataset602_pairs" / "splits_final.json").read_text())
    assert sorted(case for split in splits for case in split["val"]) == sorted(targets.training_cases)


def test_the_value_is_what_both_views_age_and_sex_add_up_to() -> None:
    rng = np.random.default_rng(0)
    people = [Person(age, sex, 0.5, 0.5) for age in (20, 50, 80) for sex in "FM"]
    found = [(who, pair(rng, who)) for who in people for _ in range(200)]
    table = np.array([[1, p.width, p.depth, who.age - 50, who.sex == "M"] for who, p in found], float)
    weights = np.linalg.lstsq(table, np.array([p.value for _, p in found]), rcond=None)[0]
    np.testing.assert_allclose(weights, [BASE, PER_WIDTH, PER_DEPTH, PER_YEAR, MALE], atol=0.2)


@pytest.mark.parametrize("lateral", [False, True])
def test_a_view_shows_its_extent(lateral: bool) -> None:
    def bright(extent: float) -> float:
        grey = view(np.random.default_rng(2), 64, extent, lateral).mean(axis=-1)
        return float((grey > 105).mean())

    shares = [bright(extent) for extent in (0.0, 0.5, 1.0)]
    assert shares[0] < shares[1] < shares[2]


def test_smooth_fields_are_those_of_a_wrapped_gaussian() -> None:
    twin = gaussian_filter(np.random.default_rng(0).standard_normal((64, 64)), 3.2, mode="wrap", truncate=8)
    np.testing.assert_allclose(smooth(np.random.default_rng(0), 64, 0.05), (twin - twin.mean()) / twin.std(), atol=0.02)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["defects", "out", "--images", "1"], "--images is 1; give at least 2"),
        (["defects", "out", "--size", "8"], "--size is 8; give at least 32"),
        (["defects", "out", "--seed", "-1"], "--seed is -1"),
        (["pairs", "out", "--test", "26"], "leave some to train with"),
        (["pairs", "full"], "full is no empty folder"),
    ],
)
def test_wrong_numbers(options: list[str], said: str, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(SystemExit, match="2"):
        images(options)
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
