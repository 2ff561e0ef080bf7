"""Which files belong together."""

import json

import pytest

from nnunet_ext.evaluation import finding
from nnunet_ext.evaluation.regions import EDITIONS
from tests.evaluation.files import save, tumour


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_a_folder_and_a_tree(tmp_path):
    touch(tmp_path / "flat/a.nii.gz", tmp_path / "flat/b.nii", tmp_path / "flat/a.npz", tmp_path / "flat/plans.json")
    assert finding.files(tmp_path / "flat") == {"a": tmp_path / "flat/a.nii.gz", "b": tmp_path / "flat/b.nii"}
    touch(
        tmp_path / "tree/HGG/c_1/c_1_seg.nii.gz",
        tmp_path / "tree/HGG/c_1/c_1_t1.nii.gz",
        tmp_path / "tree/d-0/d-0-seg.nii.gz",
    )
    assert sorted(finding.files(tmp_path / "tree")) == ["c_1", "d-0"]
    assert finding.files(tmp_path / "flat/b.nii") == {"b": tmp_path / "flat/b.nii"}


def test_what_is_no_folder_of_segmentations(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        finding.files(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds no segmentations"):
        finding.files(tmp_path)
    touch(tmp_path / "a.nii", tmp_path / "a.nii.gz")
    with pytest.raises(ValueError, match="a has two files"):
        finding.files(tmp_path)


def test_a_raw_dataset_gives_the_set_that_was_predicted(tmp_path):
    touch(tmp_path / "labelsTr/a.nii.gz", tmp_path / "labelsTr/b.nii.gz", tmp_path / "labelsTs/c.nii.gz")
    assert sorted(finding.references_of(tmp_path, ["a"])) == ["a", "b"]
    assert sorted(finding.references_of(tmp_path, ["c"])) == ["c"]


def test_a_fold_gives_its_validation(tmp_path):
    model = tmp_path / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    touch(model / "fold_0/validation/a.nii.gz", model / "fold_1/validation/b.nii.gz")
    assert finding.predictions_of(model / "fold_0") == model / "fold_0/validation"
    assert finding.predictions_of(model / "fold_0/validation") == model / "fold_0/validation"
    with pytest.raises(ValueError, match="fold_0, fold_1"):
        finding.predictions_of(model)


def test_no_case_is_dropped(tmp_path):
    paths = {case: tmp_path / case for case in "abc"}
    pairs = finding.pairs_of({"a": paths["a"], "b": paths["b"]}, {"b": paths["b"], "c": paths["c"]}, None)
    assert [(p.case, bool(p.reference), bool(p.prediction)) for p in pairs] == [
        ("a", True, False),
        ("b", True, True),
        ("c", False, True),
    ]
    assert [p.case for p in finding.pairs_of(paths, {"b": paths["b"]}, ["b"])] == ["b"]
    with pytest.raises(ValueError, match="No case has both"):
        finding.pairs_of({"a": paths["a"]}, {"c": paths["c"]}, None)


def test_expected_cases(tmp_path, monkeypatch):
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    fold = tmp_path / "results/Dataset501_B/T__P__3d_fullres/fold_1/validation"
    splits = tmp_path / "preprocessed/Dataset501_B/splits_final.json"
    touch(splits, fold / "x")
    splits.write_text(json.dumps([{"train": ["b"], "val": ["a"]}, {"train": ["a"], "val": ["b"]}]))
    assert finding.expected_cases("", fold, ["a"]) == ["b"]
    assert finding.expected_cases(str(splits), fold, []) == ["b"]
    assert finding.expected_cases("", fold.parents[1] / "fold_all/validation", []) == ["a", "b"]
    assert finding.expected_cases("predicted", fold, ["a"]) == ["a"]
    assert finding.expected_cases("all", fold, ["a"]) is None
    assert finding.expected_cases("", tmp_path / "output", ["a"]) is None
    with pytest.raises(ValueError, match="folds 0 to 1"):
        finding.expected_cases("", fold.parents[1] / "fold_7/validation", [])
    splits.unlink()
    with pytest.raises(ValueError, match="--cases predicted"):
        finding.expected_cases("", fold, [])
    monkeypatch.delenv("nnUNet_preprocessed")
    with pytest.raises(ValueError, match="nnUNet_preprocessed"):
        finding.expected_cases("", fold, [])


def test_the_dataset_json_near_the_files_decides(tmp_path):
    save(tmp_path / "Dataset137/labelsTr/a.nii.gz", tumour())
    labels = {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": [3]}
    (tmp_path / "Dataset137/dataset.json").write_text(json.dumps({"labels": labels}))
    folder = tmp_path / "Dataset137/labelsTr"
    assert finding.scheme_of(folder, finding.files(folder)) == EDITIONS["nnunet137"]
    (tmp_path / "Dataset137/dataset.json").write_text("{")
    with pytest.raises(ValueError, match="cannot be read"):
        finding.scheme_of(folder, finding.files(folder))


def test_labels_decide_without_one(tmp_path):
    for number in range(3):
        save(tmp_path / f"truth/x{number}.nii.gz", tumour(enhancing=4 if number == 2 else 1))
        save(tmp_path / f"same/x{number}.nii.gz", tumour(enhancing=1))
        save(tmp_path / f"other/x{number}.nii.gz", tumour(enhancing=3))
    (tmp_path / "truth/x9.nii.gz").write_bytes(b"damaged")
    truth, same, other = (finding.files(tmp_path / name) for name in ("truth", "same", "other"))
    own = finding.scheme_of(tmp_path / "truth", truth)
    assert own == EDITIONS["2021"]
    assert finding.scheme_of(tmp_path / "same", same, like=own) == own
    with pytest.raises(ValueError, match="other mean cannot be told"):
        finding.scheme_of(tmp_path / "other", other, like=own)
