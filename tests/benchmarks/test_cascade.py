"""The parts of benchmarks/cascade.py on tiny models and hand-made numbers."""

import os
import subprocess
import sys
from argparse import Namespace

import nibabel as nib
import numpy as np
import pytest

from benchmarks import cascade as benchmark
from benchmarks.processes import proportional, resident, tree_memory
from benchmarks.roi import commands, picture, quality
from nnunet_ext.discovery import hook_folder
from tests.cascade import models

SHAPE = (18, 18, 18)


@pytest.fixture
def setting(tmp_path, monkeypatch):
    """Two models, two labelled cases, and the arguments that name them."""
    models.write(tmp_path / "results", models.SEGMENTATION, "3d_fullres")
    models.write(tmp_path / "results", models.DETECTOR, "3d_roi")
    (tmp_path / "labels").mkdir()
    for name, seed in (("a", 1), ("b", 2)):
        models.write_case(tmp_path / "images", name, SHAPE, seed=seed)
        labels = np.zeros(SHAPE, np.uint8)
        labels[8:14, 8:14, 8:12] = 2
        labels[10:12, 10:12, 9:11] = 3
        nib.save(nib.Nifti1Image(labels.transpose(2, 1, 0), np.eye(4)), tmp_path / "labels" / f"{name}.nii.gz")
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    monkeypatch.setenv("nnUNet_extTrainer", str(hook_folder()))
    return Namespace(
        images=tmp_path / "images",
        labels=tmp_path / "labels",
        d="999",
        p="nnUNetPlans",
        c="3d_fullres",
        tr=models.SEGMENTATION,
        f="0",
        roi_tr=models.DETECTOR,
        roi_c="3d_roi",
        roi_f="0",
        stock_plans="nnUNetPlans",
        plain_command=False,
        device="cpu",
        mirrored=1,
        quality=None,
    )


def cases(args):
    return benchmark.cases_of(args.images, args.labels, None)


def test_dice_counts_missed_and_invented_regions():
    truth, found = np.array([1, 2, 3, 0]), np.array([1, 2, 0, 0])
    assert quality.dice(found, truth, (1, 2, 3)) == pytest.approx(0.8)
    assert quality.dice(found, truth, (3,)) == 0
    assert quality.dice(found, found, (3,)) == 1


def test_three_ways_with_and_without_mirroring(setting):
    records = quality.compare(setting, cases(setting), setting.labels)
    assert [(r["case"], r["mirrored"]) for r in records[::3]] == [("a", False), ("b", False), ("a", True)]
    assert [r["way"] for r in records[:3]] == [quality.WINDOW, quality.DETECTED, quality.TRUE]
    true = [r for r in records if r["way"] == quality.TRUE]
    assert all(r["ceiling_WT"] == r["ceiling_ET"] == 1 for r in true), "the crops hold the whole truth"
    assert all(r["crops"] >= 1 and r["fallback"] == "" for r in true)
    text = benchmark.markdown({"command": "x", "commands": [], "recall": [], "quality": records})
    assert "## Quality, with mirroring" in text
    assert "mean (voxels: median)" in text


def test_recall_by_hand(setting):
    predictor = quality.cascade(setting, quality.TrueROI, mirroring=False)
    truth = np.zeros((30, 30, 30), bool)
    truth[2:14, 2:14, 2:12] = True  # 1.44 ml
    truth[25:27, 25:27, 25:27] = True
    # voxels 2 to 7 along x are found
    half = truth & (np.arange(30) < 14)[:, None, None] & (np.arange(30) < 7)
    chosen = quality.CascadeSettings(crop_size=(8, 8, 8), margin_mm=0, min_component_ml=0)
    predictor.settings = chosen
    found = quality.recalled(half.astype(float), truth, predictor, chosen)
    assert found["in_roi"] == half.sum() == 12 * 12 * 5
    # the box is 12 x 12 x 5: along x one crop of 8 around its centre, from 0 to 8
    assert found["in_crops"] == 12 * 12 * 6
    assert (found["components"], found["missed"]) == (1, 0)
    nothing = quality.recalled(np.zeros_like(half, float), truth, predictor, chosen)
    assert nothing["in_crops"] == nothing["voxels"], "the sliding window sees everything"
    elsewhere = quality.recalled((~truth & (np.arange(30) > 28)).astype(float), truth, predictor, chosen)
    assert (elsewhere["in_roi"], elsewhere["missed"]) == (0, 1)


def test_the_recall_table_has_a_row_for_each_setting(setting):
    rows = quality.recall(setting, cases(setting), setting.labels)
    assert rows[0]["settings"] == "defaults"
    assert len({row["settings"] for row in rows}) == len(rows) > 10
    header, lines = benchmark._recall_table(rows)
    assert all(len(line) == len(header) for line in lines)


def test_a_picture(setting, tmp_path):
    predictor = quality.cascade(setting, quality.TrueROI, mirroring=False)
    data, truth = quality.preprocessed(predictor, cases(setting)["a"], setting.labels / "a.nii.gz")
    predictor.truth = truth > 0
    picture.draw("a", data, truth, predictor, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 10_000


def test_ratios_are_of_the_same_cases():
    made = [
        {"cases": n, "count": 1, "way": w, "mirrored": mirrored, "seconds": s, "cpu": s, "memory": m}
        for n, w, mirrored, s, m in [
            ("a", commands.STOCK, False, 60.0, 8),
            ("a", commands.CASCADE, False, 10.0, 2),
            ("a", commands.PLAIN, True, 90.0, 8),
            ("a", commands.CASCADE, True, 30.0, 2),
            ("b", commands.STOCK, False, 80.0, 8),
            ("b", commands.CASCADE, False, 10.0, 4),
        ]
    ]
    found = commands.ratios(made)
    assert found["each"]["a"] == {"seconds": 6, "cpu": 6, "memory": 4}
    assert found["median of single cases"] == {"seconds": 7, "cpu": 7, "memory": 3}
    lines = commands.lines(made)
    assert lines[1][-2:] == ["6.00", "0.25"]
    assert lines[3][1] == f"{commands.CASCADE}, mirrored"
    assert lines[3][-2:] == ["3.00", "0.25"], "with mirroring it is compared with the window with mirroring"


@pytest.mark.parametrize("plain", [False, True])
def test_which_commands_are_run(setting, tmp_path, monkeypatch, plain):
    """nnU-Net's command and ours for each case; with mirroring for the first, if asked for."""
    monkeypatch.setattr(commands, "stock_results", lambda args, folder: folder)
    ran = []

    def measure(words, environment, memory):
        out = words[words.index("-o") + 1]
        for path in os.listdir(words[words.index("-i") + 1]):
            if path.endswith("_0000.nii.gz"):
                os.makedirs(out, exist_ok=True)
                open(os.path.join(out, path.replace("_0000", "")), "w").close()
        ran.append((os.path.basename(words[0]), "--disable_tta" not in words, memory is not None))
        return {"seconds": 1.0, "cpu": 1.0, "memory": 1}

    monkeypatch.setattr(commands, "measure", measure)
    setting.single, setting.together, setting.plain_command = 1, True, plain
    records = commands.run_each(setting, cases(setting), tmp_path / "scratch")
    assert [r["way"] for r in records if r["mirrored"]] == ([commands.PLAIN, commands.CASCADE] if plain else [])
    mirrored = {name for name, mirrored, _ in ran if mirrored}
    assert mirrored == ({"nnUNetv2_predict", "nnUNetv2_predict_cascade"} if plain else set())
    each = [commands.STOCK, *([commands.PLAIN] if plain else []), commands.CASCADE]
    assert [r["way"] for r in records if not r["mirrored"]] == 2 * each
    assert {memory for _, _, memory in ran} == {False, True}


def test_memory_of_a_tree_of_processes():
    """A child's memory counts; pages that both share count once in proportion."""
    code = "import sys; x = bytearray(64 << 20); print('ready', flush=True); sys.stdin.read()"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"ready\n"
    for memory in (resident, proportional):
        assert tree_memory(child.pid, memory) > 64 << 20
        assert tree_memory(os.getpid(), memory) > memory(os.getpid()) + (64 << 20)
    assert proportional(child.pid) <= resident(child.pid)
    child.communicate(b"")
    assert tree_memory(child.pid) == 0


def test_names_of_patients_can_be_left_out():
    found = benchmark.anonymous({"cases": ["b", "a"], "quality": [{"case": "a", "way": "cascade"}], "ratios": {"b": 1}})
    assert found == {
        "cases": ["case 1", "case 2"],
        "quality": [{"case": "case 2", "way": "cascade"}],
        "ratios": {"case 1": 1},
    }


def test_folders_without_a_common_case(tmp_path):
    with pytest.raises(ValueError, match="no case in common"):
        benchmark.cases_of(tmp_path, tmp_path, None)
