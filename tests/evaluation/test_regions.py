"""What labels mean: the editions, their detection, and what is refused."""

import numpy as np
import pytest

from nnunet_ext.evaluation.regions import EDITIONS, detect, edition_named, scheme_of_dataset

LABELS = {"background": 0, "necrotic tumor core": 1, "edema": 2, "enhancing tumor": 3}
REGIONS = {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [1, 3], "enhancing tumor": [3]}
DATASET137 = {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": [3]}


@pytest.mark.parametrize(
    ("edition", "wt", "tc", "et"),
    [
        *[(year, {1, 2, 4}, {1, 4}, {4}) for year in ("2017", "2018", "2019", "2020", "2021")],
        ("2023", {1, 2, 3}, {1, 3}, {3}),
        ("2024", {1, 2, 3}, {1, 3}, {3}),
        ("nnunet137", {1, 2, 3}, {2, 3}, {3}),
    ],
)
def test_regions_of_editions(edition, wt, tc, et):
    scheme = EDITIONS[edition]
    back = {number: label for label, number in scheme.labels.items()}
    found = {name: {back[n] for n in numbers} for name, numbers in scheme.regions.items()}
    assert (found["WT"], found["TC"], found["ET"]) == (wt, tc, et)
    assert list(scheme.regions) == ["WT", "TC", "ET", "NCR", "ED", *(["RC"] if edition == "2024" else [])]


@pytest.mark.parametrize("labels", [LABELS, REGIONS])
def test_an_ignore_label_beside_those_of_brats(labels):
    scheme = scheme_of_dataset({"labels": {**labels, "ignore": 4}})
    assert (scheme.name, scheme.ignore, scheme.foreign({0, 1, 2, 3, 4, 5})) == ("2023", 4, [5])


def test_classes_take_the_place_of_labels():
    volume = np.array([0, 1, 2, 4])
    assert EDITIONS["2021"].classes_of(volume).tolist() == [0, 1, 2, 3]
    assert EDITIONS["nnunet137"].classes_of(np.array([0, 1, 2, 3])).tolist() == [0, 2, 1, 3]
    assert EDITIONS["2021"].foreign({0, 1, 3, 9}) == [3, 9]
    many = scheme_of_dataset({"labels": {"background": 0, "a": 1, "b": 300}})
    assert many.classes_of(np.array([[0, 300], [1, 0]], np.int32)).tolist() == [[0, 2], [1, 0]]
    assert EDITIONS["2021"].classes_of(np.array([[0, 4], [255, 1]], np.uint16)[:, ::-1]).tolist() == [[3, 0], [1, 0]]


@pytest.mark.parametrize(
    ("labels", "cases", "edition"),
    [
        ({1, 2, 4}, ["BraTS2021_00001"], "2021"),
        ({1, 2, 4}, ["Brats18_TCIA01_378_1"], "2018"),
        ({0, 4}, ["patient7"], "2021"),
        ({1, 2, 3}, ["BraTS-GLI-00001-000"], "2023"),
        ({1, 2}, ["BraTS-GLI-00001-000"], "2023"),
        ({1, 2, 3, 4}, ["BraTS-GLI-02064-100"], "2024"),
    ],
)
def test_detection(labels, cases, edition):
    assert detect(labels, cases) == EDITIONS[edition]


@pytest.mark.parametrize(
    ("labels", "cases", "words"),
    [
        ({1, 2, 3}, ["patient7"], "--edition 2023 or nnunet137"),
        ({1, 2, 3}, ["BraTS2021_00001"], "--edition"),  # converted, but which way?
        ({1, 2}, ["BraTS2021_00001"], "--edition"),
        (set(), ["patient7"], "no label but 0"),
        ({1, 2, 3, 4}, ["BraTS2021_00001"], "files of one edition"),
        ({5}, ["BraTS-GLI-00001-000"], "5"),
    ],
)
def test_the_ambiguous_is_refused(labels, cases, words):
    with pytest.raises(ValueError, match=words):
        detect(labels, cases)


@pytest.mark.parametrize(
    ("labels", "edition"),
    [
        (LABELS, "2023"),
        (REGIONS, "2023"),
        (DATASET137, "nnunet137"),
        ({"background": 0, "edema": 1, "necrosis": 2, "enhancing": 3}, "nnunet137"),
        ({"background": 0, "NETC": 1, "SNFH": 2, "ET": 3, "RC": 4}, "2024"),
        ({"background": 0, "NCR": 1, "ED": 2, "ET": 4}, "2017"),
        ({"background": 0, "necrotic and non-enhancing core": 1, "oedema": 2, "enhancing tumour": 3}, "2023"),
    ],
)
def test_dataset_json_of_brats(labels, edition):
    assert scheme_of_dataset({"labels": labels}) == EDITIONS[edition]


def test_dataset_json_of_something_else():
    scheme = scheme_of_dataset(
        {"name": "Liver", "labels": {"background": 0, "liver": [1, 2], "cancer": 2, "ignore": 3}}
    )
    assert (scheme.name, scheme.classes, scheme.ignore) == ("Liver", ("label 1", "cancer"), 3)
    assert scheme.regions == {"liver": (1, 2), "cancer": (2,), "label 1": (1,)}
    assert not scheme.brats
    assert scheme.classes_of(np.array([0, 1, 2, 3])).tolist() == [0, 1, 2, 0]


def test_names_of_editions():
    assert edition_named("BraTS2018") is EDITIONS["2018"]
    with pytest.raises(ValueError, match="2017, 2018"):
        edition_named("2016")
    with pytest.raises(ValueError, match="labels"):
        scheme_of_dataset({})
