"""The command nnunet_ext evaluate: what it takes, prints, writes and refuses."""

import json

import numpy as np
import pytest

from nnunet_ext.cli import main
from nnunet_ext.evaluation.table import read_metrics, read_summary
from tests.evaluation.files import save, tumour

REGIONS = {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [1, 3], "enhancing tumor": [3]}


@pytest.fixture
def folders(tmp_path):
    """Three cases with the labels of 2021: one equal, one moved, one where ten voxels were invented."""
    without = tumour(enhancing=1)
    invented = without.copy()
    invented[0, 0, :10] = 4
    for case, truth, given in (
        ("BraTS2021_00001", tumour(enhancing=4), tumour(enhancing=4)),
        ("BraTS2021_00002", tumour(enhancing=4), np.roll(tumour(enhancing=4), 1, axis=0)),
        ("BraTS2021_00003", without, invented),
    ):
        save(tmp_path / f"truth/{case}/{case}_seg.nii.gz", truth)
        save(tmp_path / f"given/{case}.nii.gz", given)
    return tmp_path


def evaluate(folders, *options, reference="truth", prediction="given", out="out"):
    words = [str(folders / reference), str(folders / prediction), "-o", str(folders / out), *options]
    return main(["evaluate", *words])


def refused(capsys, folders, *options, **places):
    assert evaluate(folders, *options, **places) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


def test_a_tree_and_a_folder(folders, capsys):
    assert evaluate(folders) == 0
    told = capsys.readouterr().out
    assert "3 cases, labels of 2021, convention brats" in told
    assert all(word in told for word in ("WT", "HD95_directed", "NSD_1mm", "metrics.csv"))
    table = read_metrics(folders / "out")
    assert set(table.region) == {"WT", "TC", "ET", "NCR", "ED"}
    expected = {"Dice", "HD95_pooled", "HD95_directed", "NSD_1mm", "precision", "recall", "specificity", "volume_ml"}
    expected |= {"lesionwise_Dice", "lesionwise_HD95", "lesions_tp", "lesions_fp", "lesions_fn"}
    assert expected <= set(table.metric)
    assert read_summary(folders / "out")["versions"]["numpy"] == np.__version__


def test_a_failed_case_is_told_and_the_code_is_1(folders, capsys):
    (folders / "given/BraTS2021_00002.nii.gz").unlink()
    save(folders / "given/BraTS2021_00009.nii.gz", tumour(enhancing=4))
    assert evaluate(folders) == 1
    told = capsys.readouterr().out
    assert "2 cases failed" in told
    assert "There is no prediction for BraTS2021_00002." in told
    assert "There is no reference for BraTS2021_00009." in told


def test_conventions_are_named_and_their_disagreements_told(folders, capsys):
    save(folders / "given/BraTS2021_00003.nii.gz", tumour(enhancing=1))
    assert evaluate(folders, "--convention", "brats2023") == 0
    told = capsys.readouterr().out
    assert "nnunet, Dice: 1 values differ, most in BraTS2021_00003 ET: - where brats2023 has 1" in told


def test_two_files(folders, capsys):
    truth = "truth/BraTS2021_00002/BraTS2021_00002_seg.nii.gz"
    save(folders / "mine.nii.gz", tumour(enhancing=4))
    assert evaluate(folders, reference=truth, prediction="mine.nii.gz") == 0
    assert read_summary(folders / "out")["metrics"]["WT"]["Dice"]["mean"] == 1


def test_nsd_tolerances_and_jobs(folders):
    assert evaluate(folders, "--nsd", "0.5", "2", "--jobs", "2") == 0
    assert {"NSD_0.5mm", "NSD_2mm"} <= set(read_metrics(folders / "out").metric)


def test_a_raw_dataset_by_its_number_and_a_fold(folders, monkeypatch, capsys):
    monkeypatch.setenv("nnUNet_raw", str(folders / "raw"))
    monkeypatch.setenv("nnUNet_preprocessed", str(folders / "preprocessed"))
    dataset, fold = folders / "raw/Dataset501_B", folders / "results/Dataset501_B/T__P__3d_fullres/fold_1"
    for case in "abc":
        save(dataset / f"labelsTr/{case}.nii.gz", tumour())
    save(fold / "validation/b.nii.gz", tumour())
    (dataset / "dataset.json").write_text(json.dumps({"labels": REGIONS, "file_ending": ".nii.gz"}))
    (folders / "preprocessed/Dataset501_B").mkdir(parents=True)
    splits = folders / "preprocessed/Dataset501_B/splits_final.json"
    splits.write_text(json.dumps([{"train": [], "val": ["a"]}, {"train": [], "val": ["b", "c"]}]))
    assert main(["evaluate", "501", str(fold), "-o", str(folders / "out")]) == 1
    assert "There is no prediction for c." in capsys.readouterr().out
    out = str(folders / "out2")
    assert main(["evaluate", "501", str(fold / "validation"), "-o", out, "--cases", "predicted"]) == 0
    assert read_summary(folders / "out2")["cases"] == 1


def test_a_fixed_threshold_of_enhancing_tumour(folders, capsys):
    assert evaluate(folders, "--et-threshold", "11") == 0
    assert "fewer than 11 voxels of enhancing tumour" in capsys.readouterr().out
    values = read_metrics(folders / "out").set_index(["case", "region", "metric"])["value"]
    assert values["BraTS2021_00003", "ET", "Dice"] == 1


def test_a_threshold_that_is_searched_on_other_folds(folders):
    model = folders / "T__P__3d_fullres"
    for number, fold in enumerate((0, 1, 1)):
        name = f"BraTS2021_{number + 1:05d}.nii.gz"
        target = model / f"fold_{fold}/validation" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (folders / "given" / name).rename(target)
    options = ("--et-threshold", "search", "--cases", "predicted")
    assert evaluate(folders, *options, prediction="T__P__3d_fullres/fold_0") == 0
    summary = read_summary(folders / "out")
    assert summary["et_threshold"] == 20
    assert summary["et_threshold_search"]["cases"] == ["BraTS2021_00002", "BraTS2021_00003"]
    assert summary["cases"] == 1


def test_a_threshold_is_never_searched_on_what_is_judged(folders, capsys):
    told = refused(capsys, folders, "--et-threshold", "search", "--search-in", str(folders / "given"))
    assert "BraTS2021_00001 (3 cases)" in told
    assert "--search-in" in refused(capsys, folders, "--et-threshold", "search")
    assert not (folders / "out").exists()


def test_editions(folders, capsys):
    for case in ("BraTS2021_00001", "BraTS2021_00002", "BraTS2021_00003"):
        save(folders / f"mine/{case}.nii.gz", tumour())
    told = refused(capsys, folders, prediction="mine")
    assert "--edition" in told
    assert evaluate(folders, "--prediction-edition", "2023", prediction="mine") == 0
    summary = read_summary(folders / "out")
    assert (summary["reference"]["name"], summary["prediction"]["name"]) == ("2021", "2023")
    assert summary["metrics"]["WT"]["Dice"]["mean"] == 1
    told = refused(capsys, folders, "--prediction-edition", "2024", prediction="mine", out="other")
    assert "classes that 2021" in told


def test_labels_of_two_editions_in_one_folder(folders, capsys):
    save(folders / "truth/BraTS2021_00003/BraTS2021_00003_seg.nii.gz", tumour())
    assert "files of one edition" in refused(capsys, folders)
    assert evaluate(folders, "--edition", "2021") == 1
    assert "has the label 3; 2021 has 0, 1, 2, 4" in capsys.readouterr().out


def test_a_dataset_json_by_name(folders, capsys):
    (folders / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "a": 1, "b": 2, "c": 4}}))
    assert evaluate(folders, "--dataset-json", str(folders / "dataset.json")) == 0
    assert set(read_metrics(folders / "out").region) == {"a", "b", "c"}
    told = refused(capsys, folders, "--dataset-json", str(folders / "dataset.json"), "--edition", "2021")
    assert "give one" in told
    told = refused(capsys, folders, "--dataset-json", str(folders / "dataset.json"), "--et-threshold", "5")
    assert "BraTS's labels" in told


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--jobs", "0"), "--jobs"),
        (("--nsd", "-1"), "--nsd"),
        (("--nsd", "1", "1"), "different"),
        (("--et-threshold", "few"), "--et-threshold"),
        (("--search-in", "somewhere"), "--search-in"),
        (("--edition", "2016"), "2017, 2018"),
        (("--cases", "nowhere.json"), "nowhere.json"),
    ],
)
def test_bad_options(folders, capsys, options, words):
    assert words in refused(capsys, folders, *options)
    assert not (folders / "out").exists()


def test_a_training_that_still_runs(folders, capsys):
    fold = folders / "Dataset501_B/T__P__3d_fullres/fold_0"
    fold.mkdir(parents=True)
    (fold / "progress.png").write_bytes(b"")  # nnU-Net's curves, no segmentation
    assert main(["evaluate", str(folders / "truth"), str(fold), "-o", str(folders / "out")]) == 2
    assert "has no validation: its training is not finished" in capsys.readouterr().err


def test_damaged_files_beside_the_predictions(folders, capsys):
    (folders / "given/summary.json").write_text("{ damaged")
    assert "summary.json cannot be read" in refused(capsys, folders)
    assert not list((folders / "out").glob("*.csv"))
    (folders / "given/summary.json").unlink()
    (folders / "splits.json").write_text("{}")
    fold = folders / "T__P__3d_fullres/fold_0/validation"
    fold.parent.mkdir(parents=True)
    (folders / "given").rename(fold)
    told = refused(capsys, folders, "--cases", str(folders / "splits.json"), prediction=fold)
    assert "holds dict where a list is expected" in told


def test_unreadable_files_are_failures(folders, capsys):
    path = folders / "given/BraTS2021_00001.nii.gz"
    path.write_bytes(b"no image")
    broken = folders / "truth/BraTS2021_00002/BraTS2021_00002_seg.nii.gz"
    broken.unlink()
    broken.mkdir()  # a folder with a segmentation's name
    assert evaluate(folders) == 1
    told = capsys.readouterr().out
    assert "BraTS2021_00001.nii.gz cannot be read" in told
    assert "BraTS2021_00002_seg.nii.gz cannot be read" in told


def test_bad_places(folders, capsys):
    assert "does not exist" in refused(capsys, folders, reference="nowhere")
    assert "does not exist" in refused(capsys, folders, prediction="nowhere")
    save(folders / "others/x.nii.gz", tumour(enhancing=4))
    assert "No case has both" in refused(capsys, folders, prediction="others")
    assert "is a file" in refused(capsys, folders, out="given/BraTS2021_00001.nii.gz")


def test_another_convention_into_the_same_folder(folders, capsys):
    assert evaluate(folders) == 0
    before = (folders / "out/metrics.csv").read_bytes()
    capsys.readouterr()
    assert "--overwrite" in refused(capsys, folders, "--convention", "nnunet")
    assert (folders / "out/metrics.csv").read_bytes() == before
    assert evaluate(folders, "--convention", "nnunet", "--overwrite") == 0
    assert read_summary(folders / "out")["convention"] == "nnunet"


@pytest.mark.data
def test_real_cases_are_equal_to_themselves(brats_data, tmp_path):
    tree = str(brats_data / "BRATS2018")
    assert main(["evaluate", tree, tree, "-o", str(tmp_path)]) == 0
    means = read_summary(tmp_path)["metrics"]
    assert {entry["Dice"]["mean"] for entry in means.values()} == {1.0}
    assert {entry["HD95_directed"]["mean"] for entry in means.values()} == {0.0}
