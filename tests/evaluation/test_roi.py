"""What a cascade's ROI costs, from its reports."""

import json
import math

import numpy as np
import pytest

from nnunet_ext.commands import evaluate as command
from nnunet_ext.evaluation import roi
from nnunet_ext.evaluation.cases import evaluate
from nnunet_ext.evaluation.finding import pairs_of
from tests.evaluation.files import save, tumour
from tests.evaluation.test_cases import PLAIN

AT = (2, 3, 3)  # not in the middle of the first axis


def report(folder, case="a", **facts):
    path = folder / roi.FOLDER / f"{case}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"case": case, "fallback": "", **facts}))
    return path


def files(tmp_path, **facts):
    """A perfect prediction by a cascade that saw what the facts say."""
    reference = save(tmp_path / "reference" / "a.nii.gz", tumour(at=AT))
    prediction = save(tmp_path / "prediction" / "a.nii.gz", tumour(at=AT))
    report(prediction.parent, **facts)
    return pairs_of({"a": reference}, {"a": prediction}, None)[0]


def values(pair, region):
    found = evaluate(pair, PLAIN)
    assert found["failure"] == ""
    return tuple(found["regions"][region]["values"][name] for name in roi.METRICS)


def test_by_hand(tmp_path):
    """A crop sees 2 x 6 x 3 of the tumour's 6 x 6 x 6 voxels, 1 x 4 x 2 of the enhancing ones, none of the necrosis."""
    pair = files(tmp_path, crop_image_boxes=[[[0, 4], [0, 14], [0, 6]]])
    assert values(pair, "WT") == pytest.approx((36 / 216, 2 * 36 / (36 + 216)))
    assert values(pair, "ET") == pytest.approx((8 / 56, 2 * 8 / (8 + 56)))
    assert values(pair, "NCR") == (0, 0)


def test_crops_add_up_and_overlap(tmp_path):
    boxes = [[[0, 6], [0, 14], [0, 16]], [[5, 12], [0, 14], [0, 16]]]
    assert values(files(tmp_path, crop_image_boxes=boxes), "WT") == (1, 1)


def test_the_fallback_saw_everything(tmp_path):
    assert values(files(tmp_path, crop_image_boxes=[], fallback="the detector finds no tumour"), "WT") == (1, 1)


def test_an_empty_region_costs_nothing():
    empty = np.zeros((2, 2, 2), bool)
    assert roi.limits(empty, empty) == {"ROI_recall": 1, "ROI_Dice": 1}


def test_a_window_has_no_roi(tmp_path):
    pair = files(tmp_path, crop_image_boxes=[])
    (tmp_path / "prediction" / roi.FOLDER / "a.json").unlink()
    found = evaluate(pairs_of({"a": pair.reference}, {"a": pair.prediction}, None)[0], PLAIN)
    assert not set(roi.METRICS) & set(found["regions"]["WT"]["values"])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "is no report"),
        ('{"fallback": ""}', "crop_image_boxes"),
        ('{"fallback": "", "crop_image_boxes": [[[0, 99], [0, 2], [0, 2]]]}', "not within the image"),
    ],
)
def test_a_foreign_report_is_a_failure(tmp_path, text, told):
    pair = files(tmp_path)
    pair.roi.write_text(text)
    found = evaluate(pair, PLAIN)
    assert told in found["failure"]
    assert all(math.isnan(found["regions"]["WT"]["values"][name]) for name in roi.METRICS)


def test_the_command_shows_it(tmp_path, capsys):
    files(tmp_path, crop_image_boxes=[[[0, 4], [0, 14], [0, 16]]])
    parser = command.argparse.ArgumentParser()
    command.add_arguments(parser)
    words = [
        str(tmp_path / "reference"),
        str(tmp_path / "prediction"),
        "-o",
        str(tmp_path / "out"),
        "--edition",
        "2023",
    ]
    assert command.run(parser.parse_args(words)) == 0
    head, row = (line for line in capsys.readouterr().out.splitlines() if line.startswith(("region", "WT")))
    assert "ROI_Dice" in head
    assert "0.5" in row.split()
