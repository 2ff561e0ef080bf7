"""``nnunet_ext contributions``: tables, picture, going on, and what it refuses."""

import csv
import json
import shutil

import numpy as np
import pandas as pd
import pytest

from nnunet_ext.cli import main
from nnunet_ext.explain import contributions
from tests.trainers import workspace
from tests.trainers.workspace import FOUR

REGIONS = ("whole tumor", "tumor core", "enhancing tumor")


def command(model, raw, out, *further):
    words = ["contributions", "-m", model, "-i", raw[0], "-l", raw[1], "-o", out, "-device", "cpu", *further]
    return main([str(word) for word in words])


@pytest.fixture(scope="module")
def made(folders, raw, tmp_path_factory):
    out = tmp_path_factory.mktemp("contributions")
    assert command(folders("QuadBranchAttention_XS") / "fold_0", raw, out) == 0
    return out


def test_the_tables_are_long_and_add_up(made):
    table = pd.read_csv(made / "contributions.csv", keep_default_na=False, na_values=[""])
    assert list(table.columns[:6]) == ["case", "region", "value", "baseline", "modality", "shapley"]
    assert len(table) == 2 * len(REGIONS) * 2 * len(FOUR)
    assert set(table["case"]) == {"first", "second"}
    assert set(table["region"]) == set(REGIONS)
    subsets = pd.read_csv(made / "subsets.csv", keep_default_na=False)
    for keys, of in table.groupby(["case", "region", "value", "baseline"]):
        assert list(of["modality"]) == list(FOUR)
        gain = (of["all"] - of["none"]).iloc[0]
        assert abs(of["shapley"].sum() - gain) < 1e-9
        worth = subsets[(subsets[["case", "region", "value", "baseline"]] == list(keys)).all(1)].set_index("subset")
        assert len(worth) == 16
        assert worth["worth"]["none"] == of["none"].iloc[0]
        assert worth["worth"]["+".join(FOUR)] == of["all"].iloc[0]
    assert table["attention"].between(0, 1).all()
    assert table.groupby("case")["attention"].nunique().min() > 1


def test_the_agreement_is_of_the_table(made):
    agreement = pd.read_csv(made / "agreement.csv")
    assert len(agreement) == 2 * len(REGIONS) * 2
    assert agreement["kendall_tau_b"].dropna().between(-1, 1).all()


def test_the_summary_says_how_it_was_computed(made):
    summary = json.loads((made / "summary.json").read_text())
    assert summary["trainer"] == "nnUNetTrainer_QuadBranchAttention_XS"
    assert summary["modalities"] == list(FOUR)
    assert summary["baselines"] == ["zero"]
    assert set(summary["weights_sha256"]) == {"0"}
    assert len(summary["means"]) == len(REGIONS) * 2 * len(FOUR)


def test_there_is_a_picture(made):
    assert (made / "contributions.png").read_bytes().startswith(b"\x89PNG")
    assert not list(made.glob(".*"))


def test_finished_cases_are_not_predicted_again(made, folders, raw, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    shutil.copytree(made, out)
    (out / "contributions.csv").unlink()
    model = folders("QuadBranchAttention_XS") / "fold_0"
    count = []
    predicted = contributions.predicted
    monkeypatch.setattr(contributions, "predicted", lambda *of: count.append(of) or predicted(*of))
    assert command(model, raw, out) == 0
    assert not count
    assert (out / "contributions.csv").read_bytes() == (made / "contributions.csv").read_bytes()
    (out / "cases" / "second.json").unlink()
    assert command(model, raw, out) == 0
    assert len(count) == 16
    assert (out / "contributions.csv").read_bytes() == (made / "contributions.csv").read_bytes()
    assert command(model, raw, out, "--value", "dice") == 2
    assert "is of a run with another values; choose another -o, or give --overwrite" in capsys.readouterr().err


def test_a_case_whose_files_have_changed_is_done_again(made, folders, raw, tmp_path, monkeypatch):
    out, images = tmp_path / "out", tmp_path / "images"
    shutil.copytree(made, out)
    shutil.copytree(raw[0], images)
    (images / "first_0000.nii.gz").write_bytes((images / "first_0001.nii.gz").read_bytes())
    count = []
    predicted = contributions.predicted
    monkeypatch.setattr(contributions, "predicted", lambda *of: count.append(of) or predicted(*of))
    assert command(folders("QuadBranchAttention_XS"), (images, raw[1]), out, "-f", "0") == 0
    assert len(count) == 16


def test_the_mean_of_preprocessed_cases_is_a_baseline(folders, raw, tmp_path, monkeypatch, capsys):
    model, options = folders("DualBranchStride_XS"), ["--baseline", "zero", "mean", "--region", "whole tumor"]
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    assert command(model, raw, tmp_path / "out", *options) == 2
    assert "preprocess it" in capsys.readouterr().err
    workspace.write(tmp_path)
    assert command(model, raw, tmp_path / "out", *options, "--value", "probability") == 0
    with (tmp_path / "out" / "contributions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * len(FOUR)
    found = {(r["case"], r["baseline"], r["modality"]): float(r["shapley"]) for r in rows}
    for case in ("first", "second"):
        for baseline in ("zero", "mean"):  # T1ce and FLAIR are read, and nothing else
            assert [found[case, baseline, m] for m in ("T1", "T2")] == [0, 0]
            assert all(found[case, baseline, m] != 0 for m in ("T1ce", "FLAIR"))
        assert found[case, "zero", "FLAIR"] != found[case, "mean", "FLAIR"]
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["mean_of"] == [f"case{i}" for i in range(5)]


def refused(capsys, sentence, *arguments, further=()):
    assert command(*arguments, *further) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert len(error.strip().splitlines()) == 1


def test_what_is_missing_is_said_in_a_sentence(folders, raw, tmp_path, capsys):
    model = folders("UNet3D_XS")
    images, labels = tmp_path / "images", tmp_path / "labels"
    shutil.copytree(raw[0], images)
    shutil.copytree(raw[1], labels)
    (images / "second_0002.nii.gz").unlink()
    (labels / "second.nii.gz").unlink()
    out = tmp_path / "out"
    refused(capsys, "second lacks second_0002.nii.gz (T2); the network reads T1", model, (images, labels), out)
    refused(capsys, "lacks the reference second.nii.gz; every case of -i", model, (raw[0], labels), out)
    refused(capsys, "There is no folder", model, (tmp_path / "no", labels), out)
    refused(capsys, "There is no folder", model, (raw[0], tmp_path / "no"), out)
    refused(
        capsys, "no class 'whole tumour'; nearest: 'whole tumor'", model, raw, out, further=["--region", "whole tumour"]
    )
    two = ["--region", "whole tumor", "whole tumor"]
    refused(capsys, "'whole tumor' is named twice; once is enough", model, raw, out, further=two)
    refused(capsys, "--value is dice dice; name each once", model, raw, out, further=["--value", "dice", "dice"])
    mean = ["--baseline", "mean", "--mean-from", str(raw[0])]
    refused(capsys, "needs preprocessed training cases other than those", model, raw, out, further=mean)
    refused(capsys, "There is no model", tmp_path / "no", raw, out)
    empty = shutil.copytree(model, tmp_path / "empty")
    (empty / "fold_0" / "checkpoint_final.pth").unlink()
    refused(capsys, "has no checkpoint_final.pth for fold 0; no fold has it", empty / "fold_0", raw, out)
    refused(capsys, "-m names fold_0 and -f 1", model / "fold_0", raw, out, further=["-f", "1"])
    refused(capsys, "-step_size must be above 0", model, raw, out, further=["-step_size", "0"])
    assert not out.exists()


def test_a_reference_that_does_not_fit_is_refused(folders, raw, tmp_path, capsys):
    import nibabel as nib

    model, labels = folders("UNet3D_XS"), tmp_path / "labels"
    shutil.copytree(raw[1], labels)
    volume = np.zeros((18, 20, 22), np.uint8)
    for changed, affine, sentence in (
        (volume[:-1], np.eye(4), "has the shape 22 x 20 x 17 (z, y, x); first has 22 x 20 x 18"),
        (volume, np.diag([2.0, 1, 1, 1]), "has voxels of 1 x 1 x 2 mm (z, y, x); first of 1 x 1 x 1 mm"),
        (volume + 7, np.eye(4), "has the label 7; the labels of the network's dataset are 0, 1, 2, 3"),
    ):
        nib.save(nib.Nifti1Image(changed, affine), labels / "first.nii.gz")
        refused(capsys, sentence, model, (raw[0], labels), tmp_path / "out")
