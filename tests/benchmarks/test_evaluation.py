"""The benchmark of evaluation: its volumes, and whether it would see a difference."""

import math

import numpy as np
import pytest
from scipy.ndimage import label

from benchmarks.scoring import agreement, many, speed
from benchmarks.scoring.volumes import WAYS, masks, pair


def test_the_volumes_have_everything_that_happens_to_lesions():
    kinds = set()
    for seed in range(100):
        reference, prediction = masks(seed)
        kinds.add((bool(reference.any()), bool(prediction.any())))
        numbers = [label(mask, np.ones((3, 3, 3)))[1] for mask in (reference, prediction)]
        kinds |= {name for name, n in zip(("many lesions", "many parts"), numbers, strict=True) if n > 3}
        kinds |= {"single voxel"} if reference.sum() == 1 else set()
        kinds |= {"at the border"} if reference[0].any() or reference[-1].any() else set()
    expected = {(True, True), (True, False), (False, True), (False, False)}
    assert kinds == expected | {"many lesions", "many parts", "single voxel", "at the border"}
    assert len(WAYS) == 16
    assert all(np.array_equal(*two) for two in zip(pair(5), pair(5), strict=True))
    assert set(np.unique(pair(0)[0])) <= {0, 1, 2, 3}


def theirs(**changed):
    values = {"Dice": 1.0, "HD95_directed": 0.0, "lesionwise_Dice": 1.0}
    return {"15": {"WT": {**values, **changed}}}  # seed 15: equal volumes


def test_a_difference_is_seen():
    assert WAYS[15].__name__ == "_equal"
    same = agreement.largest_differences("brats2023", theirs())
    assert [row["different"] for row in same.values()] == [0, 0, 0]
    for value in (1 - 1e-6, math.nan, math.inf):
        found = agreement.largest_differences("brats2023", theirs(Dice=value))
        assert (found["Dice"]["different"], found["HD95_directed"]["different"]) == (1, 0)
    assert agreement.largest_differences("brats2023", theirs(Dice=1 - 1e-12))["Dice"]["different"] == 0


def test_libraries_agree():
    found = agreement.libraries(20)
    assert len(found) == 3
    assert all(row["values"] > 10 and row["different"] == 0 for row in found.values())


def test_ratios_are_of_medians():
    seconds = {speed.OURS: {"a": [1.0, 2.0, 9.0]}, speed.OFFICIAL: {"a": [10.0, 20.0, 40.0]}}
    seconds |= {speed.SAME: {"a": [0.5]}, speed.BOXED: {"a": [0.1]}, speed.WHOLE: {"a": [5.0]}}
    found = speed.ratios(seconds)
    assert [row["median"] for row in found.values()] == pytest.approx([40, 10, 50])
    report = {"cases": 1, "repeats": 3, "load": "0.1", "seconds": seconds, "ratios": found}
    assert "| brats-evaluation / nnunet_ext evaluate, all conventions | 10.0 | 10.0 | 10.0 |" in speed.page(report)


def test_the_page_of_many_cases():
    rows = [{"cases": n, "seconds": n / 2, "cpu": float(n), "memory": 2.0**28} for n in (10, 20)]
    lines = many.page({"jobs": 2, "rows": rows, "cpu_per_case": 1.0, "memory_ratio": 1.0})
    assert "| 20 | 10.0 | 20.0 | 256 |" in lines
    assert "1251 cases 10.4 minutes on 2 free cores" in lines[-1]
