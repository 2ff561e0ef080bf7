"""`nnunet_ext sweep`: what it tells before it starts, its exit codes, and what it does when runs fail."""

import json
import re
import shlex
from contextlib import nullcontext

import pandas as pd
import pytest

from nnunet_ext.cli import main
from nnunet_ext.commands import sweep, sweep_finish
from nnunet_ext.experiments import live, pool
from nnunet_ext.experiments.outcome import Outcome
from nnunet_ext.experiments.tasks import read
from tests.experiments import space
from tests.experiments.fake_training import save
from tests.trainers.workspace import DATASET

TEXT = "dataset: 999\ntrainers: [UNet3D]\nwords: [XS]\nseeds: [1, 2]\nfolds: [0, 1]\ndevice: cpu\n"


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    space.write(tmp_path, monkeypatch)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(TEXT, encoding="utf-8")
    return tmp_path


def files_in(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_a_dry_run_tells_every_command_and_writes_nothing(workplace, capsys):
    before = files_in(workplace)
    assert main(["sweep", "mine.yaml", "--dry-run"]) == 0
    assert files_in(workplace) == before
    told = capsys.readouterr().out
    lines = [line for line in told.splitlines() if "nnUNetv2_train" in line]
    commands = [shlex.split(line[line.index("nnUNetv2_train") :]) for line in lines]
    assert [(words[3], words[5]) for words in commands] == [
        (fold, f"nnUNetTrainer_UNet3D_XS_seed{seed}") for seed in (1, 2) for fold in ("0", "1")
    ]
    assert all(re.match(r"not begun +\d+ MiB +- ", line) for line in lines)
    assert told.count("nnUNetv2_predict ") == 2
    assert "nothing has measured nnUNetTrainer_UNet3D_XS; --probe does" in told
    assert "# Is the comparison fair?" in told
    assert "At the end: nnunet_ext compare" in told


def test_a_measured_time_is_multiplied_by_what_is_left(workplace, capsys):
    folder = (
        workplace / "results" / DATASET / "nnUNetTrainer_UNet3D_XS_5epochs_iter10__nnUNetPlans__3d_fullres" / "fold_0"
    )
    folder.mkdir(parents=True)
    epoch = {"learning_rate": 0, "loss": {"training": 1, "validation": 1}, "mean_dice": None, "ema_dice": None}
    epoch |= {"epoch": 0, "memory": {"peak_mib": 1}, "dice": {}, "seconds": {"epoch": 10}}
    (folder / "progress.jsonl").write_text(f"{json.dumps(epoch)}\n", encoding="utf-8")
    words = ["--words", "XS", "10epochs", "iter60", "--jobs", "1"]
    assert main(["sweep", "mine.yaml", "--dry-run", *words]) == 0
    told = capsys.readouterr().out
    assert "10 min" in told, "10 epochs of 60 iterations, a second each"
    assert "The trainings left take about 40 min with 1 at once" in told


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--trainers", "UNet3DD"], "nearest: UNet3D"),
        (["--seeds", "1", "1"], "seed 1 is there twice"),
        (["--folds", "0", "0"], "fold 0 is there twice"),
        (["--folds", "2"], "There is no fold 2"),
        (["--trainers", "[]"], "says no trainers"),
        (["--dataset", "998"], "holds 0 datasets 998"),
        (["--plans", "others"], "There are no plans"),
        (["--configuration", "3d_lowres"], "no configuration '3d_lowres'; nearest: 3d_fullres"),
        (["--device", "tpu"], "expected cuda, cpu or mps"),
        (["--test", "nowhere"], "does not exist or holds no image"),
        (["--cascade", "{configuration: 3d_other}"], "run nnunet_ext plan-roi -d 999"),
        (["--seeds", "[1"], "--seeds [1 is no YAML"),
        (["--name", "a b"], "expected a name of letters"),
        (["--name", ".."], "expected a name of letters"),
        (["--reference", "Bogus"], "reference is Bogus, which is none of the methods UNet3D_XS"),
        (["--out", "mine.yaml/reports"], "mine.yaml is a file; name a folder"),
        (["--cores", "5000"], "cores is 5000, and this machine has"),
        (["--slurm", "--probe"], "--probe measures for --dry-run"),
    ],
)
def test_bad_input_is_one_sentence_and_2(workplace, capsys, flags, told):
    before = files_in(workplace)
    assert main(["sweep", "mine.yaml", *flags]) == 2
    said = capsys.readouterr().err
    assert told in said
    assert len(said.strip().splitlines()) == 1
    assert files_in(workplace) == before


@pytest.mark.parametrize(
    ("left", "said"), [(0, "2 of the 2 held-out cases (held0, held1)"), (1, "1 of the 2 held-out")]
)
def test_held_out_cases_without_a_reference_are_refused(workplace, capsys, left, said):
    """As failures of every method they would count."""
    (workplace / "labels").mkdir()
    for i in range(left):
        (workplace / "labels" / f"held{i}.nii.gz").touch()
    assert main(["sweep", "mine.yaml", "--test-labels", "labels"]) == 2
    assert f"labels has no reference of {said}" in capsys.readouterr().err


def test_finished_trainings_without_probabilities_are_told(workplace, capsys):
    fold = workplace / "results" / DATASET / "nnUNetTrainer_UNet3D_XS_seed1__nnUNetPlans__3d_fullres" / "fold_0"
    (fold / "validation").mkdir(parents=True)
    (fold / "validation" / "summary.json").write_text("{}")
    save(fold, "checkpoint_final.pth", {})
    assert main(["sweep", "mine.yaml", "--dry-run"]) == 0
    assert "kept no probabilities" not in capsys.readouterr().err
    assert main(["sweep", "mine.yaml", "--dry-run", "--probabilities", "yes"]) == 0
    assert "1 finished trainings kept no probabilities" in capsys.readouterr().err
    (fold / "validation" / "case.npz").touch()
    assert main(["sweep", "mine.yaml", "--dry-run", "--probabilities", "yes"]) == 0
    assert "kept no probabilities" not in capsys.readouterr().err


@pytest.mark.parametrize("name", ["UNet3D_XS", "nnUNetTrainer_UNet3D_XS", "UNet3D_XS_seed2"])
def test_a_reference_is_a_method_or_its_trainer(workplace, name):
    assert main(["sweep", "mine.yaml", "--dry-run", "--reference", name]) == 0


def test_an_unknown_key_is_told_with_the_nearest(workplace, capsys):
    (workplace / "mine.yaml").write_text(TEXT + "sedes: 1\n", encoding="utf-8")
    assert main(["sweep", "mine.yaml"]) == 2
    assert "mine.yaml has the unknown key 'sedes'; nearest: seeds" in capsys.readouterr().err


def test_what_does_not_fit_is_told_before_anything_starts(workplace, capsys, monkeypatch):
    monkeypatch.setattr("nnunet_ext.experiments.hardware.memory_mib", lambda: 100)
    assert main(["sweep", "mine.yaml", "--dry-run"]) == 2
    assert "nnUNetTrainer_UNet3D_XS needs 2.0 GB of main memory and the machine has 0.1" in capsys.readouterr().err


def test_the_status_of_what_was_not_started(workplace, capsys):
    assert main(["sweep", "mine.yaml", "--status"]) == 2
    assert "was not started" in capsys.readouterr().err


@pytest.fixture
def carried_out(monkeypatch):
    """Runs the command with outcomes in place of runs, and notes what the report is asked for."""
    asked = []

    def carry_out(codes):
        def run_all(tasks, settings):
            asked.append((tasks, settings))
            return [
                Outcome(task.name, codes.get(task.name, 0), tries=codes.get(task.name, 0) and 3, lines=("last line",))
                for task in tasks
            ]

        monkeypatch.setattr(pool, "run_all", run_all)
        monkeypatch.setattr(live, "watching", lambda _: nullcontext())
        monkeypatch.setattr(
            sweep_finish, "report", lambda plan, outcomes, jobs: (asked.append("report"), ("there", 0))[1]
        )
        return main(["sweep", "mine.yaml"]), asked

    return carry_out


TRAINING = "train-nnUNetTrainer_UNet3D_XS_seed2-3d_fullres-f1"


def test_a_sweep_makes_splits_tells_its_tasks_and_reports(workplace, carried_out, capsys):
    splits = workplace / "preprocessed" / DATASET / "splits_final.json"
    splits.unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "nnunet_ext.planning.splits.make_splits", lambda folder, data: (folder / splits.name).write_text("[]")
        )
        code, asked = carried_out({})
    assert code == 0
    assert splits.read_text() == "[]"
    ((tasks, settings), report) = asked
    assert report == "report"
    assert settings.folder == workplace / "results" / DATASET / "sweeps" / "mine"
    assert tuple(read(settings.folder / "tasks.json")) == tuple(tasks)
    assert "6 of 6 runs are done, 6 of them were before" in capsys.readouterr().out


def test_methods_are_compared_where_all_of_them_were_measured():
    rows = [("window", "WT", "Dice"), ("cascade", "WT", "Dice"), ("cascade", "WT", "ROI_Dice")]
    table = pd.DataFrame(rows, columns=["method", "region", "metric"])
    assert list(sweep_finish.common(table).index) == [0, 1]


def test_a_failed_run_is_1_with_its_last_lines_and_the_rest_is_reported(workplace, carried_out, capsys):
    code, asked = carried_out({TRAINING: 137})
    assert code == 1
    assert asked[-1] == "report"
    told = capsys.readouterr().out
    assert f"{TRAINING}: exit code 137 after 3 tries" in told
    assert "    last line" in told
    assert "its log" not in told, "there is none"
    log = asked[0][1].log(TRAINING)
    log.parent.mkdir(parents=True)
    log.touch()
    assert main(["sweep", "mine.yaml", "--status"]) == 0
    told = capsys.readouterr().out
    assert (
        f"When the sweep last ended:\n{TRAINING}: exit code 137 after 3 tries\n    last line\n    its log: {log}"
        in told
    )


def test_a_comparison_that_is_refused_is_no_report(workplace, carried_out, capsys, monkeypatch):
    carried_out({})
    monkeypatch.setattr(sweep_finish, "report", lambda *_: ("there", 2))
    assert main(["sweep", "mine.yaml"]) == 1
    said = capsys.readouterr()
    assert "The comparison was refused" in said.err
    assert said.out.count("The report lies in there") == 1, "of the first run"


def test_two_sweeps_of_one_name_are_not_at_work_together(workplace, carried_out, capsys):
    code, asked = carried_out({})
    assert code == 0
    folder = asked[0][1].folder
    tasks = (folder / "tasks.json").read_text()
    with sweep._only_one(folder):
        assert main(["sweep", "mine.yaml", "--seeds", "3"]) == 2
    assert "A sweep of the name mine is at work" in capsys.readouterr().err
    assert (folder / "tasks.json").read_text() == tasks
    assert main(["sweep", "mine.yaml"]) == 0, "the lock is free again"


@pytest.mark.parametrize("place", ["_told", "_carry_out"])
def test_ctrl_c_ends_with_75_wherever_it_comes(workplace, capsys, monkeypatch, place):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep, place, interrupted)
    assert main(["sweep", "mine.yaml", *(["--dry-run"] if place == "_told" else [])]) == 75
    assert capsys.readouterr().err.strip().endswith("Stopped; the same command goes on from what is saved.")


def test_a_stopped_sweep_reports_nothing(workplace, carried_out, capsys):
    code, asked = carried_out({TRAINING: 75})
    assert code == 75
    assert "report" not in asked
    assert "the same command goes on" in capsys.readouterr().err


def test_a_ray_that_is_lost_for_good_is_told(workplace, carried_out, capsys, monkeypatch):
    def lost(tasks, settings):
        raise pool.HeadLostError("the raylet has gone")

    carried_out({})
    capsys.readouterr()
    monkeypatch.setattr(pool, "run_all", lost)
    assert main(["sweep", "mine.yaml"]) == 1
    told = capsys.readouterr()
    assert "(the raylet has gone); what is trained is kept" in told.err
    assert "runs are done" not in told.out


def test_nothing_is_compared_where_nothing_is_finished(workplace, carried_out, capsys):
    names = [f"train-nnUNetTrainer_UNet3D_XS_seed{seed}-3d_fullres-f{fold}" for seed in (1, 2) for fold in (0, 1)]
    code, asked = carried_out(dict.fromkeys(names, 1))
    assert code == 1
    assert "report" not in asked


def test_missing_extras_are_told_before_the_beginning(workplace, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "ray" else object())
    assert main(["sweep", "mine.yaml"]) == 2
    assert 'ray is not installed; pip install "nnunet_ext[sweep,report]"' in capsys.readouterr().err


def progress(seconds):
    epoch = {"learning_rate": 0, "loss": {"training": 1, "validation": 1}, "mean_dice": None, "ema_dice": None}
    epoch |= {"memory": {"peak_mib": 77.0}, "dice": {}}
    return "".join(json.dumps({**epoch, "epoch": i, "seconds": {"epoch": s}}) + "\n" for i, s in enumerate(seconds))


@pytest.fixture
def in_miniature(monkeypatch):
    """Pretends that short trainings are done, and notes their commands; codes by the task's kind."""
    asked = []

    def pretend(codes):
        def run_all(tasks, settings):
            asked.extend(tasks)
            settings.log("x").parent.mkdir(parents=True)
            settings.log("x").write_text("what it printed")
            for task in tasks:
                task.folder.mkdir(parents=True)
                (task.folder / "progress.jsonl").write_text(progress([50, 6]))
            return [Outcome(task.name, codes.get(task.kind, 0), tries=1, lines=("boom",), seconds=9) for task in tasks]

        monkeypatch.setattr(pool, "run_all", run_all)
        return asked

    return pretend


def test_a_probe_tells_the_time_of_what_nobody_has_measured(workplace, capsys, in_miniature):
    asked = in_miniature({})
    before = files_in(workplace)
    assert main(["sweep", "mine.yaml", "--dry-run", "--probe", "--words", "XS", "10epochs", "iter60"]) == 0
    assert [(task.kind, task.command[5]) for task in asked] == [
        ("train", "nnUNetTrainer_UNet3D_XS_NoMirror_2epochs_iter3_seed1")
    ]
    told = capsys.readouterr().out
    assert re.search(r"20 min +the probe", told), "10 epochs of 60 iterations, two seconds each"
    assert files_in(workplace) == before


def test_a_probe_that_fails_says_so(workplace, capsys, in_miniature):
    in_miniature({"train": 3})
    assert main(["sweep", "mine.yaml", "--dry-run", "--probe"]) == 2
    assert "ended with 3: boom" in capsys.readouterr().err


def test_the_sanity_run_tells_what_was_tried(workplace, capsys, in_miniature):
    asked = in_miniature({})
    assert main(["sweep", "mine.yaml", "--sanity", "--trainers", "UNet3D", "nnUNetTrainer"]) == 0
    assert [task.kind for task in asked] == ["train", "predict"]
    told = capsys.readouterr().out
    assert re.search(r"train-nnUNetTrainer_UNet3D_XS_NoMirror_1epochs_iter2_seed1-3d_fullres-f0 +done +9 +77 MiB", told)
    assert "nnUNetTrainer is not tried: it has no words for a short training." in told


def test_a_sanity_run_that_fails_is_1_and_keeps_its_logs(workplace, capsys, in_miniature):
    in_miniature({"predict": 1})
    assert main(["sweep", "mine.yaml", "--sanity"]) == 1
    told = capsys.readouterr().out
    assert "exit code 1" in told
    assert "    boom" in told
    assert (workplace / "baseline_results" / "sanity_logs" / "x.log").read_text() == "what it printed"
