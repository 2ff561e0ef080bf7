"""What the conventions count: seven hand-made cases with all values, and the tables of the official programs."""

import hashlib
import json
from math import inf, isnan, nan
from pathlib import Path

import numpy as np
import pytest

from benchmarks.scoring.volumes import pair
from nnunet_ext.evaluation.conventions import CONVENTIONS, DIAGONAL
from nnunet_ext.evaluation.metrics import failed, measure, values
from nnunet_ext.evaluation.regions import EDITIONS

OFFICIAL = Path(__file__).parent / "official_values.json"
SHAPE = (48, 48, 48)
WIDE, NARROW = (slice(10, 20),) * 2, (slice(10, 18),) * 2
HERE, THERE = ((slice(5, 11),) * 3, (slice(30, 36),) * 3)


def boxes(*chosen):
    mask = np.zeros(SHAPE, bool)
    for box in chosen:
        mask[box] = True
    return mask


CASES = {
    "missed entirely": (boxes(HERE), boxes()),
    "only false positive": (boxes(), boxes(HERE)),
    "both empty": (boxes(), boxes()),
    "one of two lesions missed": (boxes(HERE, THERE), boxes(HERE)),
    "one extra false positive": (boxes(HERE), boxes(HERE, THERE)),
    "one lesion in two fragments": (
        boxes((slice(10, 22), *WIDE)),
        boxes((slice(10, 16), *WIDE), (slice(17, 22), *WIDE)),
    ),
    "two lesions fused": (
        boxes((slice(10, 18), *NARROW), (slice(19, 27), *NARROW)),
        boxes((slice(10, 27), *NARROW)),
    ),
}
# lesion-wise Dice and HD95; lesions found, extra and missed
GROWN = {
    "missed entirely": (0, 374, 0, 0, 1),
    "only false positive": (0, 374, 0, 1, 0),
    "both empty": (1, 0, 0, 0, 0),
    "one of two lesions missed": (0.5, 187, 1, 0, 1),
    "one extra false positive": (0.5, 187, 1, 1, 0),
    "one lesion in two fragments": (22 / 23, 3, 1, 0, 0),
    "two lesions fused": (32 / 33, 2, 1, 0, 0),  # they are one: both grow together
}
MATCHED = {
    "missed entirely": (0, inf, 0, 0, 1),
    "only false positive": (0, inf, 0, 1, 0),
    "both empty": (nan, nan, 0, 0, 0),
    "one of two lesions missed": (1, 0, 1, 0, 1),
    "one extra false positive": (1, 0, 1, 1, 0),
    "one lesion in two fragments": (12 / 18, 6, 1, 1, 0),
    "two lesions fused": (16 / 25, 9, 1, 0, 1),
}
EXPECTED = {"brats": GROWN, "brats2023": GROWN, "brats2026-gli": MATCHED, "nnunet": GROWN}
LESIONWISE = ("lesionwise_Dice", "lesionwise_HD95", "lesions_tp", "lesions_fp", "lesions_fn")


@pytest.fixture(scope="module")
def facts():
    return {name: measure(*masks, (1, 1, 1), masks[0].size) for name, masks in CASES.items()}


def test_every_convention_is_tested():
    assert set(EXPECTED) == set(CONVENTIONS)


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("case", CASES)
def test_lesions_of_seven_cases(facts, convention, case):
    found = values(facts[case], CONVENTIONS[convention])
    assert [found[name] for name in LESIONWISE] == pytest.approx(EXPECTED[convention][case], nan_ok=True)


# Dice, HD95 (both definitions), precision, recall
EMPTY = {
    "brats": {
        "both empty": (1, 0, 1, 1),
        "missed entirely": (0, DIAGONAL, 0, 0),
        "only false positive": (0, DIAGONAL, 0, 0),
    },
    "brats2023": {"both empty": (1, 0, 1, 1), "missed entirely": (0, 374, 0, 0), "only false positive": (0, 374, 0, 0)},
    "brats2026-gli": {
        "both empty": (nan, nan, nan, nan),
        "missed entirely": (0, 373, 0, 0),
        "only false positive": (0, 373, 0, 0),
    },
    "nnunet": {
        "both empty": (nan, nan, nan, nan),
        "missed entirely": (0, DIAGONAL, 0, 0),
        "only false positive": (0, DIAGONAL, 0, 0),
    },
}


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("case", ["both empty", "missed entirely", "only false positive"])
def test_empty_masks(facts, convention, case):
    found = values(facts[case], CONVENTIONS[convention])
    dice, far, precision, recall = EMPTY[convention][case]
    assert (found["HD95_pooled"], found["HD95_directed"]) == pytest.approx((far, far), nan_ok=True)
    overlaps = [found[name] for name in ("Dice", "NSD_1mm", "precision", "recall")]
    assert overlaps == pytest.approx([dice, dice, precision, recall], nan_ok=True)
    assert found["specificity"] == pytest.approx(1 if case != "only false positive" else 1 - 6**3 / 48**3)


def test_the_diagonal():
    assert pytest.approx(373.12866, abs=1e-5) == DIAGONAL


def test_masks_without_a_common_voxel():
    found = measure(boxes(HERE), boxes(THERE), (1, 1, 1), 48**3)
    assert values(found, CONVENTIONS["brats"])["HD95_pooled"] < 60
    assert values(found, CONVENTIONS["brats2026-gli"])["HD95_pooled"] == 373


def test_small_reference_lesions_do_not_count():
    small = (slice(30, 32), slice(30, 35), slice(30, 35))  # 50 voxels
    counted = measure(boxes(HERE, small), boxes(HERE), (1, 1, 1), 48**3)
    found = values(counted, CONVENTIONS["brats2023"])
    assert [found[name] for name in LESIONWISE] == [1, 0, 1, 0, 0]
    larger = measure(boxes(HERE, small), boxes(HERE), (1, 1, 1.1), 48**3)
    assert values(larger, CONVENTIONS["brats2023"])["lesions_fn"] == 1


def test_a_near_prediction_belongs_to_its_lesion():
    near = (slice(5, 11), slice(5, 11), slice(13, 16))  # two voxels away: within the three that the lesion grows
    found = values(measure(boxes(HERE), boxes(near), (1, 1, 1), 48**3), CONVENTIONS["brats2023"])
    assert [found[name] for name in LESIONWISE[2:]] == [1, 0, 0]
    far = (slice(5, 11), slice(5, 11), slice(14, 17))
    found = values(measure(boxes(HERE), boxes(far), (1, 1, 1), 48**3), CONVENTIONS["brats2023"])
    assert [found[name] for name in LESIONWISE[2:]] == [0, 1, 1]


@pytest.mark.parametrize("convention", CONVENTIONS.values(), ids=lambda c: c.name)
def test_a_failed_case_has_every_metric_at_its_worst(facts, convention):
    worst = failed(convention)
    assert set(worst) == set(values(facts["both empty"], convention))
    for found in (values(fact, convention) for fact in facts.values()):
        for metric, value in found.items():
            if isnan(worst[metric]) or isnan(value):
                continue
            better = value <= worst[metric] if "HD95" in metric else value >= worst[metric]
            assert better or (metric == "lesionwise_HD95" and value > convention.failed)


# --- what the official programs say of random volumes; the table is made by benchmarks/evaluation.py


@pytest.fixture(scope="module")
def official():
    return json.loads(OFFICIAL.read_text(encoding="utf-8"))


def test_the_volumes_are_those_of_the_table(official):
    digest = hashlib.sha256()
    for seed in official["seeds"]:
        for labels in pair(seed):
            digest.update(repr(labels.shape).encode() + labels.tobytes())
    assert digest.hexdigest() == official["sha256"], "NumPy draws other volumes: make the table again"


@pytest.mark.parametrize("convention", ["brats2023", "brats2026-gli"])
def test_values_are_those_of_the_official_program(official, convention):
    table = official[convention]
    assert len(official["seeds"]) >= 200
    for seed in official["seeds"]:
        labels = pair(seed)
        for region, expected in table["values"][str(seed)].items():
            masks = [np.isin(volume, EDITIONS["2023"].regions[region]) for volume in labels]
            found = values(measure(*masks, (1, 1, 1), masks[0].size), CONVENTIONS[convention])
            theirs = [nan if value is None else float(value) for value in expected]
            ours = [found[metric] for metric in table["metrics"]]
            assert ours == pytest.approx(theirs, abs=1e-9, rel=0, nan_ok=True), (seed, region)
