"""A whole comparison by one command, on the phantoms of the pipeline; a training that was done by hand counts."""

import hashlib
import json

import pandas as pd
import pytest

from tests.integration.conftest import PLANS, TRAINER

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2700)]
TEXT = f"""
dataset: 501
plans: {PLANS}
trainers: [DualBranchGhost, UNet3D]
words: [XS, 1epochs, iter2]
seeds: [1]
folds: [0, 1]
device: cpu
mirroring: no
"""
TABLES = {
    *(
        "integrated_experiment_results.csv",
        "model_comparison.csv",
        "all_epochs_results.csv",
        "stage_wise_pam_results.csv",
    ),
    *("test_results.csv", "test_model_comparison.csv", "fair_comparison.md", "sweep.json", "learning_curves.png"),
    *("model_comparison_chart.png", "parameter_efficiency.png", "interactive_3d_analysis.html"),
}


def signature(folder):
    """Time of change and content of all that a repeated run would write."""
    names = ("checkpoint_final.pth", "summary.json", "progress.jsonl", "*.nii.gz")
    paths = [path for name in names for path in sorted(folder.rglob(name))]
    return {path: (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest()) for path in paths}


def written(space):
    """All that the sweep has made; other tests of this folder write elsewhere in nnUNet_results."""
    folders = space.folder("nnUNet_results").glob(f"*__{PLANS}__3d_fullres/*")
    own = [folder for folder in sorted(folders) if folder.name.startswith(("fold_", "test_"))]
    return {path: sign for folder in own for path, sign in signature(folder).items()}


def runs_of(report):
    return {run["name"]: run for run in json.loads((report / "sweep.json").read_text())["runs"]}


def test_a_whole_comparison_by_one_command(trained):
    """One test, because its parts follow from each other and one process must do it."""
    file = trained.root / "two.yaml"
    file.write_text(TEXT, encoding="utf-8")
    by_hand = trained.folder("nnUNet_results") / f"{TRAINER}__{PLANS}__3d_fullres" / "fold_0"
    before = signature(by_hand)
    trained.run("nnunet_ext", "sweep", file, "--out", trained.root / "reports")
    (report,) = (trained.root / "reports").iterdir()
    check_report(report)
    assert signature(by_hand) == before, "a training that was done by hand counts"
    tries = {name: run["tries"] for name, run in runs_of(report).items()}
    assert tries.pop(f"train-{TRAINER}-3d_fullres-f0") == 0
    assert set(tries.values()) == {1}
    check_repetition(trained, file, report)
    assert "\n6 finished\n" in trained.run("nnunet_ext", "sweep", file, "--status")


def check_report(report):
    assert {path.name for path in report.iterdir()} >= TABLES
    assert len(runs_of(report)) == 6
    table = pd.read_csv(report / "integrated_experiment_results.csv")
    assert set(table["method"]) == {"DualBranchGhost_XS_1epochs_iter2", "UNet3D_XS_1epochs_iter2"}
    assert set(table["fold"]) == {0, 1}
    held_out = pd.read_csv(report / "test_results.csv")
    assert set(held_out["method"]) == set(table["method"])
    assert set(held_out["fold"]) == {"test"}


def check_repetition(trained, file, report):
    """The same command again repeats nothing and writes the same tables."""
    before = written(trained)
    assert len(before) > 12
    words = ["--out", trained.root / "again", "--report", "no", "--cost", "no"]
    assert "6 of 6 runs are done, 6 of them were before" in trained.run("nnunet_ext", "sweep", file, *words)
    assert written(trained) == before
    (again,) = (trained.root / "again").iterdir()
    assert {run["tries"] for run in runs_of(again).values()} == {0}
    for name in ("integrated_experiment_results.csv", "test_results.csv"):
        assert (again / name).read_bytes() == (report / name).read_bytes()
