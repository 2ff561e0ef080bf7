"""One case from files: formats, geometry, and what is wrong with files."""

import json
import math
import struct

import numpy as np
import pytest
import SimpleITK

from nnunet_ext.evaluation.cases import Pair, Settings, evaluate, without_few
from nnunet_ext.evaluation.conventions import CONVENTIONS
from nnunet_ext.evaluation.reading import ENDINGS, UnreadableError, labels_in, read
from nnunet_ext.evaluation.regions import EDITIONS, scheme_of_dataset
from tests.evaluation.files import save, tumour

PLAIN = Settings(EDITIONS["2023"], EDITIONS["2023"], "brats")


def record(tmp_path, reference, prediction, settings=PLAIN, **prediction_geometry):
    pair = Pair(
        "a",
        save(tmp_path / "reference" / "a.nii.gz", reference),
        save(tmp_path / "prediction" / "a.nii.gz", prediction, **prediction_geometry),
    )
    return evaluate(pair, settings)


def test_values_and_confusion_by_hand(tmp_path):
    prediction = tumour()
    prediction[4, 4, 4] = 0  # one voxel of enhancing tumour is missed
    found = record(tmp_path, tumour(), prediction)
    assert (found["failure"], found["note"]) == ("", "")
    dice = {region: entry["values"]["Dice"] for region, entry in found["regions"].items()}
    expected = {"WT": 430 / 431, "TC": 126 / 127, "ET": 110 / 111, "NCR": 1, "ED": 1}
    assert dice == pytest.approx(expected)
    assert found["confusion"] == [[12 * 14 * 16 - 216, 0, 0, 0], [0, 8, 0, 0], [0, 0, 152, 0], [1, 0, 0, 55]]
    assert found["regions"]["WT"]["values"]["volume_ml"] == pytest.approx(0.215)


@pytest.mark.parametrize("ending", [e for e in ENDINGS if e not in (".png", ".bmp", ".gipl")])
def test_formats_of_nnunet(tmp_path, ending):
    path = save(tmp_path / f"a{ending}", tumour(), spacing=(1.0, 2.0, 3.0))
    if ending in (".tif", ".tiff"):
        (tmp_path / "a.json").write_text(json.dumps({"spacing": [3.0, 2.0, 1.0]}))
    found = read(path)
    assert np.array_equal(found.labels, tumour())
    assert found.spacing == (3.0, 2.0, 1.0)


KINDS = ("u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8")


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_nifti_file_is_what_simpleitk_reads(tmp_path, kind, ending):
    turned = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)
    path = save(tmp_path / f"a{ending}", tumour().astype(kind), (1.0, 2.0, 3.0), (5.0, -7.0, 0.5), turned)
    image, found = SimpleITK.ReadImage(str(path)), read(path)
    assert np.array_equal(found.labels, SimpleITK.GetArrayFromImage(image))
    assert found.spacing == image.GetSpacing()[::-1]
    assert (found.origin, found.direction) == (image.GetOrigin(), image.GetDirection())


@pytest.mark.parametrize(("slope", "intercept"), [(2.0, 0.0), (1.0, 1.0), (0.0, 5.0), (1.0, 0.0)])
def test_a_scaled_nifti_file_is_what_simpleitk_reads(tmp_path, slope, intercept):
    path = save(tmp_path / "a.nii", tumour())
    data = bytearray(path.read_bytes())
    struct.pack_into("<2f", data, 112, slope, intercept)
    path.write_bytes(data)
    assert np.array_equal(read(path).labels, SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))))


@pytest.mark.parametrize("labels", [[0], [], [0, 1, 3], [5, 8], [0, 9, 700], [2, 65535]])
def test_labels_of_a_volume(labels):
    assert labels_in(np.array(labels * 3, np.int32)) == set(labels)


@pytest.mark.parametrize("shape", [(1, 7, 6), (1, 1, 5), (4, 1, 1)])
def test_flat_volumes_are_what_simpleitk_reads(tmp_path, shape):
    path = save(tmp_path / "a.nii.gz", np.arange(np.prod(shape), dtype=np.uint8).reshape(shape))
    assert np.array_equal(read(path).labels, SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))))


def test_two_dimensions(tmp_path):
    flat = tumour().max(axis=0)
    found = evaluate(Pair("a", save(tmp_path / "a.png", flat), save(tmp_path / "b.png", np.roll(flat, 1, 1))), PLAIN)
    assert found["regions"]["WT"]["values"]["Dice"] == pytest.approx(30 / 36)
    assert found["regions"]["WT"]["values"]["HD95_pooled"] == 1


def test_oblique_images_are_compared(tmp_path):
    turned = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)
    pair = Pair("a", *(save(tmp_path / n / "a.nii.gz", tumour(), (1.0, 1.0, 3.0), direction=turned) for n in "rp"))
    found = evaluate(pair, PLAIN)
    assert (found["failure"], found["note"], found["regions"]["ET"]["values"]["HD95_directed"]) == ("", "", 0)


def test_distances_use_the_axes_own_spacing(tmp_path):
    prediction = np.roll(tumour(), 1, axis=0)  # one step along z, 3 mm
    pair = Pair(
        "a",
        save(tmp_path / "r.nii.gz", tumour(), (1.0, 1.0, 3.0)),
        save(tmp_path / "p.nii.gz", prediction, (1.0, 1.0, 3.0)),
    )
    assert evaluate(pair, PLAIN)["regions"]["WT"]["values"]["HD95_pooled"] == pytest.approx(3)


WRONG = {
    "shape": (tumour((12, 14, 17)), {}, "shape 12 x 14 x 17"),
    "spacing": (tumour(), {"spacing": (1.0, 1.0, 1.5)}, "1.5 x 1 x 1 mm"),
    "label": (tumour(enhancing=4), {}, "label 4"),
    "fraction": (tumour() * np.float32(0.5), {}, "holds 1.5"),
    "negative": (-tumour().astype(np.int16), {}, "holds -3"),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_what_does_not_fit_is_a_failure(tmp_path, wrong, convention):
    prediction, geometry, words = WRONG[wrong]
    found = record(tmp_path, tumour(), prediction, Settings(EDITIONS["2023"], EDITIONS["2023"], convention), **geometry)
    assert words in found["failure"]
    assert found["failure"].startswith("a.nii.gz")
    assert set(found["regions"]) == {"WT", "TC", "ET", "NCR", "ED"}
    for entry in found["regions"].values():
        assert (entry["values"]["Dice"], entry["values"]["HD95_pooled"]) == (0, CONVENTIONS[convention].failed)
        assert entry["values"]["lesionwise_HD95"] == CONVENTIONS[convention].failed


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_a_file_that_ends_too_early_is_a_failure(tmp_path, ending, kept):
    """SimpleITK reads such a NIfTI file with zeros in place of what is missing."""
    labels = np.random.default_rng(0).integers(0, 4, (12, 14, 16)).astype(np.uint8)
    good, bad = save(tmp_path / f"a{ending}", labels), tmp_path / f"b{ending}"
    bad.write_bytes(good.read_bytes()[: int(good.stat().st_size * kept)])
    assert evaluate(Pair("a", good, good), PLAIN)["failure"] == ""
    assert f"b{ending} cannot be read" in evaluate(Pair("a", good, bad), PLAIN)["failure"]
    assert f"b{ending} cannot be read" in evaluate(Pair("a", bad, good), PLAIN)["failure"]


def test_a_damaged_file_is_a_failure(tmp_path):
    good, bad = save(tmp_path / "a.nii.gz", tumour()), tmp_path / "b.nii.gz"
    data = bytearray(good.read_bytes())
    data[-5] ^= 255  # in the checksum
    bad.write_bytes(data)
    assert "b.nii.gz cannot be read" in evaluate(Pair("a", good, bad), PLAIN)["failure"]


def test_values_that_are_not_finite(tmp_path):
    odd = save(tmp_path / "a.mha", np.where(tumour() > 0, np.nan, 0).astype(np.float32))
    assert "not finite" in evaluate(Pair("a", odd, odd), PLAIN)["failure"]


def test_missing_files_are_failures(tmp_path):
    good = save(tmp_path / "a.nii.gz", tumour())
    assert evaluate(Pair("a", good, None), PLAIN)["failure"] == "There is no prediction for a."
    assert evaluate(Pair("a", None, good), PLAIN)["failure"] == "There is no reference for a."
    image = save(tmp_path / "vector.nii.gz", np.zeros((2, 3, 4, 5), np.uint8))
    with pytest.raises(UnreadableError, match="dimensions"):
        read(image)


def test_what_lies_elsewhere_is_compared_and_said(tmp_path):
    found = record(tmp_path, tumour(), tumour(), origin=(0.0, -239.0, 0.0))
    assert found["failure"] == ""
    assert "239 mm" in found["note"]
    assert found["regions"]["WT"]["values"]["Dice"] == 1
    flipped = record(tmp_path, tumour(), tumour(), direction=(-1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
    assert "axes point elsewhere" in flipped["note"]


def test_predictions_of_another_edition(tmp_path):
    settings = Settings(EDITIONS["2021"], EDITIONS["2023"], "brats")
    found = record(tmp_path, tumour(enhancing=4), tumour(), settings)
    assert [entry["values"]["Dice"] for entry in found["regions"].values()] == [1] * 5


def test_ignored_voxels_count_for_nothing(tmp_path):
    scheme = scheme_of_dataset({"labels": {"background": 0, "organ": 1, "ignore": 2}})
    reference, prediction = np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8)
    reference[0, 0], prediction[0] = (1, 1, 2, 2), 1
    found = record(tmp_path, reference, prediction, Settings(scheme, scheme, "nnunet"))["regions"]["organ"]["values"]
    assert [found[name] for name in ("TP", "FP", "FN", "TN")] == [2, 12, 0, 48]


def test_empty_volumes(tmp_path):
    nothing = np.zeros((4, 4, 4), np.uint8)
    found = record(tmp_path, nothing, nothing)
    assert found["confusion"][0][0] == 64
    assert found["regions"]["ET"]["note"] == "neither reference nor prediction has a voxel"
    assert found["regions"]["ET"]["values"]["Dice"] == 1


def test_few_enhancing_voxels_become_necrosis(tmp_path):
    labels = tumour()  # 56 voxels of enhancing tumour
    assert np.array_equal(without_few(labels, 56), labels)
    few = without_few(labels, 57)
    assert (few == 3).sum() == 0
    assert (few == 1).sum() == 64
    settings = Settings(EDITIONS["2023"], EDITIONS["2023"], "brats", et_threshold=57)
    found = record(tmp_path, labels, labels, settings)["regions"]
    assert [found[region]["values"]["Dice"] for region in ("WT", "TC", "ET", "ED")] == [1, 1, 0, 1]


def test_disagreements_between_conventions(tmp_path):
    reference, prediction = tumour(), tumour()
    reference[reference == 3] = prediction[prediction == 3] = 1
    found = record(tmp_path, reference, prediction)["conventions"]
    assert set(found) == {"ET"}
    dice = found["ET"]["Dice"]
    assert (dice["brats"], dice["brats2023"]) == (1, 1)
    assert math.isnan(dice["brats2026-gli"])
    assert math.isnan(dice["nnunet"])
