"""`nnunet_ext sweep` of case-level trainers: commands, checks before they begin, a report with held-out cases."""

import json
import shutil
from contextlib import nullcontext
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from nnunet_ext.cli import main
from nnunet_ext.commands import sweep_cases
from nnunet_ext.experiments import live, pool
from nnunet_ext.experiments.supervise import run
from nnunet_ext.outcomes import charts
from tests.experiments.fakes import quick
from tests.outcomes.conftest import NAME, TABLE, write_targets
from tests.trainers import workspace
from tests.trainers.conftest import use

TEXT = """
dataset: 999
trainers: [CaseDualBranchGhost, CaseUNet3D]
words: [XS, NoAug, 2epochs, iter2]
seeds: [7]
folds: [0]
device: cpu
"""
HELD_OUT = TABLE.splitlines()[0] + "\nheld0,HGG,III,4.5,100,0,Q0\nheld1,LGG,I,1.0,800,0,Q1\n"


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Two held-out cases."""
    folder = tmp_path_factory.mktemp("imagesTs")
    for i in range(2):
        image, _ = workspace.case(np.random.default_rng(20 + i), workspace.FOUR)
        for channel, volume in enumerate(image):
            path = folder / f"held{i}_{channel:04d}.nii.gz"
            nib.save(nib.Nifti1Image(volume.transpose(2, 1, 0), np.eye(4)), path)
    return folder


@pytest.fixture
def workplace(trained, case_dataset, images, tmp_path, monkeypatch):
    """The tiny dataset, a training of it that somebody did by hand, held-out images, and the experiment's file."""
    shutil.copytree(trained, tmp_path / "results")
    use(monkeypatch, case_dataset, tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(charts, "DPI", 20)
    (tmp_path / "truth.csv").write_text(HELD_OUT)
    (tmp_path / "others.csv").write_text(HELD_OUT.replace("held", "other"))
    options = "outcomes: {covariates: none, best: 3, nested: no}\n"
    words = options + f"test: {images}\ntest_labels: {tmp_path / 'truth.csv'}\n"
    (tmp_path / "mine.yaml").write_text(TEXT + words, encoding="utf-8")
    return tmp_path


def one_after_the_other(tasks, settings):
    """In place of Ray, which other tests of the same tasks go through."""
    return [run(task, quick(settings.folder, retries=0)) for task in tasks]


def test_a_dry_run_ends_with_the_command_that_judges(workplace, images, capsys):
    assert main(["sweep", "mine.yaml", "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "2 methods, seeds 7, folds 0: 2 trainings, 2 predictions of held-out images" in told
    assert "finished" in next(line for line in told.splitlines() if f"-tr {NAME} " in line and "nnUNetv2_train" in line)
    last = next(line for line in told.splitlines() if line.startswith("At the end: "))
    assert last.startswith("At the end: nnunet_ext outcomes ")
    assert last.count(" --test ") == 2
    assert " --covariates none --best 3 --test" in last
    (workplace / "truth.csv").write_text("case,patient\nheld0,Q0\nheld1,Q1\n")
    assert main(["sweep", "mine.yaml", "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "The held-out images have no targets, so their predictions are not evaluated." in told
    assert " --test " not in told


@pytest.mark.timeout(300)
def test_a_sweep_of_case_level_trainers_ends_with_the_judged_outcomes(workplace, monkeypatch, capsys):
    """A training and a prediction as processes of their own, which the same command does not repeat."""
    monkeypatch.setattr(pool, "run_all", one_after_the_other)
    monkeypatch.setattr(live, "watching", lambda _: nullcontext())
    words = ["sweep", "mine.yaml", "--trainers", "CaseUNet3D"]
    assert main(words) == 0, capsys.readouterr()
    (report,) = (workplace / "baseline_results").iterdir()
    assert tries_in(report) == [1, 1]
    summary = pd.read_csv(report / "outcomes_summary.csv")
    assert set(summary["tested"]) == {"cross-validation", "test"}
    cases = pd.read_csv(report / "outcomes_cases.csv").query("tested == 'test' and column == 'grade'")
    assert set(cases["case"]) == {"held0", "held1"}
    assert set(cases["method"]) == {"CaseUNet3D_XS_NoAug_2epochs_iter2", "majority level"}
    assert (report / "outcomes.html").is_file()
    assert "| CaseUNet3D_XS_NoAug_2epochs_iter2 |" in (report / "fair_comparison.md").read_text()
    capsys.readouterr()
    assert main([*words, "--status"]) == 0
    table = capsys.readouterr().out
    assert "skill" in table.splitlines()[0]
    assert table.endswith("\n2 finished\n")
    assert main([*words, "--out", "again"]) == 0
    (again,) = (workplace / "again").iterdir()
    assert tries_in(again) == [0, 0]
    assert (again / "outcomes_cases.csv").read_bytes() == (report / "outcomes_cases.csv").read_bytes()


def tries_in(report):
    return [run["tries"] for run in json.loads((report / "sweep.json").read_text())["runs"]]


# --- what is refused before anything starts


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--words", "XS", "Covariates"], 'The word Covariates needs "covariates" in targets.json'),
        (["--words", "XS", "Target7"], "Target7 asks for columns of targets.json by their places"),
        (["--words", "XS", "Fused"], "CaseDualBranchGhost has branches for modalities; Fused needs"),
        (["--cascade", "yes"], "cascade is for segmentations"),
        (["--reference", "CaseUNet3D"], "reference is for segmentations"),
        (["--outcomes", "{nested: yes}"], "outcomes, nested: it is found on other folds than it is told of"),
        (["--outcomes", "{ensemble: yes}"], "ensemble takes one word, not yes."),
        (["--outcomes", "{combine: CaseA}"], "combine takes two words, not 'CaseA'."),
        (["--outcomes", "{covariates: height}"], "height is no covariate of targets.json, which declares"),
        (["--outcomes", "{combin: CaseA}"], "unknown key 'combin'; nearest: combine"),
        (
            ["--outcomes", "{best: 2}", "--trainers", "UNet3D"],
            "outcomes is for case-level trainers (Case...), and these",
        ),
        (["--folds", "all"], "Fold all validates on the cases it trains on"),
        (["--test-labels", "nowhere.csv"], "There is no table nowhere.csv"),
        (["--test-labels", "others.csv"], "others.csv has a row of none of the 2 cases in"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_bad_input_is_one_sentence_and_2(workplace, capsys, flags, told):
    assert main(["sweep", "mine.yaml", *flags]) == 2
    said = capsys.readouterr().err
    assert told in said
    assert len(said.strip().splitlines()) == 1
    assert not (workplace / "baseline_results").exists()


ONE_GRADE = TABLE.replace("LGG", "HGG").replace("case3,HGG", "case3,LGG")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda folder: (folder / "targets.json").unlink(), "targets.json"),
        (lambda folder: (folder / "splits_final.json").unlink(), "run nnunet_ext targets -d 999, which makes folds by"),
        (
            lambda folder: write_targets(folder, table=ONE_GRADE),
            "grade in the training cases of fold 0 (3 of 3 known): all",
        ),
        (
            lambda folder: write_targets(folder, table=TABLE.replace("P4", "P0")),
            "validates with case4 and trains with case0, which are of one patient",
        ),
    ],
    ids=["no targets", "no folds", "one class", "one patient"],
)
def test_targets_that_no_training_could_use_are_told(
    workplace, case_dataset, tmp_path, monkeypatch, capsys, change, told
):
    shutil.copytree(case_dataset, tmp_path / "copy")
    use(monkeypatch, tmp_path / "copy", tmp_path / "results")
    change(tmp_path / "copy" / "preprocessed" / workspace.DATASET)
    assert main(["sweep", "mine.yaml", "--dry-run"]) == 2
    assert told in capsys.readouterr().err


def test_groups_of_no_method_are_refused_before_the_trainings():
    """Of several folds, which the tiny dataset does not have."""
    sweep = SimpleNamespace(outcomes={"combine": ("a*", "Case*")})
    with pytest.raises(ValueError, match=r"--combine a\* means none of the methods CaseA, CaseB"):
        sweep_cases._check_options(sweep, SimpleNamespace(covariates={}), ["CaseA", "CaseB"])
