"""Overlap metrics by hand and against nnU-Net's own evaluation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nnunet_ext.evaluation.conventions import CONVENTIONS
from nnunet_ext.evaluation.metrics import BOTH_EMPTY, DISJOINT, NO_PREDICTION, NO_REFERENCE, measure, nsd_name, values

SHAPE = (4, 5, 6)


def test_by_hand():
    reference, prediction = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    reference[1, 1, :4] = prediction[1, 1, 1:6] = True  # 4 and 5 voxels, 3 common
    found = values(measure(reference, prediction, (1, 2, 3), 120), CONVENTIONS["nnunet"])
    expected = {
        **{"Dice": 6 / 9, "IoU": 3 / 6, "precision": 3 / 5, "recall": 3 / 4, "specificity": 114 / 116},
        **{"volume_ml": 0.03, "reference_volume_ml": 0.024},
        **{"TP": 3, "FP": 2, "FN": 1, "TN": 114, "n_pred": 5, "n_ref": 4},
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_notes():
    some, other, none = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    some[0, 0, 0] = other[3, 3, 3] = True
    pairs = {(0, 0): BOTH_EMPTY, (0, 1): NO_REFERENCE, (1, 0): NO_PREDICTION, (1, 2): DISJOINT, (1, 1): ""}
    masks = (none, some, other)
    for (first, second), note in pairs.items():
        assert measure(masks[first], masks[second], (1, 1, 1), 120).note() == note


def test_a_tolerance_has_its_name():
    mask = np.ones(SHAPE, bool)
    found = values(measure(mask, mask, (1, 1, 1), 120, (0.5, 2)), CONVENTIONS["brats"], (0.5, 2))
    assert (found["NSD_0.5mm"], found["NSD_2mm"], nsd_name(1.0)) == (1, 1, "NSD_1mm")
    assert found["specificity"] == 0  # there is no voxel without tumour


@given(arrays(np.uint8, SHAPE, elements=st.integers(0, 3)), arrays(np.uint8, SHAPE, elements=st.integers(0, 3)))
@settings(max_examples=50, deadline=None)
def test_overlaps_are_nnunets(reference, prediction):
    from nnunetv2.evaluation.evaluate_predictions import compute_tp_fp_fn_tn, region_or_label_to_mask

    for region in ((1, 2, 3), (1, 3), 3):
        masks = [region_or_label_to_mask(labels, region) for labels in (reference, prediction)]
        tp, fp, fn, tn = compute_tp_fp_fn_tn(*masks)
        found = values(measure(*masks, (1, 1, 1), reference.size), CONVENTIONS["nnunet"])
        assert [found[name] for name in ("TP", "FP", "FN", "TN")] == [tp, fp, fn, tn]
        dice = 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else np.nan
        assert found["Dice"] == pytest.approx(dice, nan_ok=True)


@given(arrays(np.bool_, SHAPE), arrays(np.bool_, SHAPE), st.sampled_from(list(CONVENTIONS)))
@settings(max_examples=50, deadline=None)
def test_laws(reference, prediction, name):
    found = values(measure(reference, prediction, (1, 1, 1), 120), CONVENTIONS[name])
    swapped = values(measure(prediction, reference, (1, 1, 1), 120), CONVENTIONS[name])
    for metric in ("Dice", "HD95_pooled", "HD95_directed", "NSD_1mm"):
        assert found[metric] == pytest.approx(swapped[metric], nan_ok=True)
    assert found["precision"] == pytest.approx(swapped["recall"], nan_ok=True)
    doubled = values(measure(reference, prediction, (2, 2, 2), 120), CONVENTIONS[name])
    if found["Dice"] > 0 and reference.any() and prediction.any():
        assert doubled["HD95_pooled"] == pytest.approx(2 * found["HD95_pooled"])
        assert doubled["HD95_directed"] == pytest.approx(2 * found["HD95_directed"])
    assert doubled["volume_ml"] == pytest.approx(8 * found["volume_ml"])
