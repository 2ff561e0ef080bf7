import pytest
import torch
from matplotlib.image import imread

from benchmarks.costs import pictures
from benchmarks.costs.models import Input, choose
from benchmarks.costs.rows import Request, Row, make_row
from nnunet_ext.profiling.stages import stages_of
from tests.profiling.small import FAMILIES

PATCH = (64, 64, 64)


def rows_of(*names: str, patch=PATCH, **request) -> list[Row]:
    return [Row(model, Request(**request)) for model in choose(names, Input(patch=patch))]


def test_title_tells_shape_units_and_precision():
    title = pictures._title(rows_of("unet3d_xs", precision="bf16"))
    assert title == "input 4 channels, 64 x 64 x 64 voxels, batch 2, precision bf16"


def test_title_tells_of_other_inputs():
    title = pictures._title(rows_of("unet3d_xs", "unet3d_s", "mobile_unetr"))
    assert title.startswith("input 4 channels, 64 x 64 x 64 voxels")
    assert "some networks have an input of their own" in title
    assert pictures._title([]) == "no network"


@pytest.mark.parametrize("name", FAMILIES)
def test_every_stage_has_a_colour_of_its_group(name):
    (model,) = choose([name], Input(patch=PATCH))
    with torch.device("meta"):
        labels = set(stages_of(model.build()).values())
    groups = {pictures._group(label) for label in labels}
    assert "other stages" not in groups
    assert all(pictures._colour(group).startswith("#") for group in groups)
    assert len(sorted(groups, key=pictures._order)) == len(groups)


def test_points_are_of_one_input():
    rows = rows_of("mobile_unetr", "unet3d_xs", "unet3d_s", "roi_unet3d_tiny")
    assert [row.model.name for row in pictures._comparable(rows)] == ["unet3d", "unet3d"]
    assert pictures._comparable([]) == []


@pytest.mark.parametrize("failed", [False, True])
def test_pictures_of_all_rows_or_of_none(tmp_path, failed):
    rows = rows_of("unet3d_xs", "swin_unetr_xs", patch=(32, 32, 32))
    rows = [Row(r.model, r.request, "failed: x") if failed else make_row(r.model, r.request) for r in rows]
    for draw in (pictures.stage_bars, pictures.scatters):
        draw(rows, tmp_path / "picture.png")
        picture = imread(tmp_path / "picture.png")
        assert min(picture.shape[:2]) > 200
        assert picture[..., :3].std() > 0  # not blank
