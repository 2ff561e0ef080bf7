import os
import pickle
import signal
import subprocess
import sys
import time

import pytest

from nnunet_ext.experiments import slurm
from nnunet_ext.experiments.tasks import Needs
from tests.experiments.fakes import contents, fake, final, quick, starts, value

submitit = pytest.importorskip("submitit")
LOCAL = {"cluster": "local", "timeout_min": 5}


def wait_for(condition, seconds=60):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.05)


def result(settings, number):
    path = settings.folder / "slurm" / f"{number}_0_result.pkl"
    wait_for(path.exists)
    return pickle.loads(path.read_bytes())


def test_tasks_come_in_levels_and_finished_ones_not_at_all(tmp_path):
    tasks = [
        fake(tmp_path, "last", after=("b", "a")),
        fake(tmp_path, "a", needs=Needs(2)),
        fake(tmp_path, "b"),
        fake(tmp_path, "c", needs=Needs(2)),
        fake(tmp_path, "alone", after=("done",)),
        fake(tmp_path, "done"),
    ]
    subprocess.run(tasks[-1].command, check=True)
    assert [[task.name for task in level] for level in slurm.levels(tasks)] == [["alone", "b", "a", "c"], ["last"]]


def test_needs_in_submitits_words(tmp_path):
    settings = quick(tmp_path, jobs=3, grace_seconds=90.5)
    assert slurm.parameters(Needs(1.5, 0.5, 3000), settings, ["7", "8"]) == {
        "name": "nnunet_ext",
        "timeout_min": 1440,
        "tasks_per_node": 1,
        "cpus_per_task": 2,
        "gpus_per_node": 1,
        "mem_gb": 3,
        "slurm_signal_delay_s": 91,
        "slurm_array_parallelism": 3,
        "slurm_dependency": "afterany:7:8",
    }
    assert "mem_gb" not in slurm.parameters(Needs(1), quick(tmp_path), [])


@pytest.fixture
def sbatch(tmp_path, monkeypatch):
    """Slurm's commands, of which sbatch keeps the script; gives where."""
    kept = tmp_path / "kept"
    kept.mkdir()
    programs = {"srun": "exit 0", "sbatch": f'cp "$1" {kept}/$$.sh; echo "Submitted batch job $$"'}
    for name, text in programs.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return kept


def test_an_array_for_each_level_in_sbatchs_words(tmp_path, sbatch):
    tasks = [fake(tmp_path, "a"), fake(tmp_path, "b"), fake(tmp_path, "c", after=("a",))]
    ids = slurm.submit(tasks, quick(tmp_path, jobs=1, grace_seconds=60), {"slurm_partition": "gpu", "timeout_min": 90})
    first, second = ids[0].partition("_")[0], ids[2]
    assert ids == [f"{first}_0", f"{first}_1", second]
    scripts = {path.stem: path.read_text().splitlines() for path in sbatch.iterdir()}
    assert {"#SBATCH --array=0-1%1", "#SBATCH --partition=gpu", "#SBATCH --time=90"} <= set(scripts[first])
    assert {"#SBATCH --signal=USR2@60", "#SBATCH --open-mode=append"} <= set(scripts[first])
    assert f"#SBATCH --dependency=afterany:{first}" in scripts[second]
    assert not any("dependency" in line for line in scripts[first])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "srun"),
        ({"cluster": "local", "slurm_partitoin": "gpu"}, "slurm_partitoin"),
        ({"cluster": "nowhere"}, "nowhere"),
    ],
)
def test_no_slurm_or_unknown_options_are_said(tmp_path, options, said, monkeypatch):
    monkeypatch.setenv("PATH", os.path.dirname(sys.executable))
    with pytest.raises(ValueError, match=said):
        slurm.submit([fake(tmp_path)], quick(tmp_path), options)


def test_jobs_do_the_tasks_and_failures_are_theirs(tmp_path):
    tasks = [
        fake(tmp_path, "good"),
        fake(tmp_path, "bad", "--epochs", 9, "--at", *(f"{epoch}:fail" for epoch in range(9))),
        fake(tmp_path, "never", after=("bad",)),
    ]
    settings = quick(tmp_path, retries=1)
    bad, good, never = (result(settings, number) for number in slurm.submit(tasks, settings, LOCAL))
    assert (good[0], good[1]["tries"]) == ("success", 1)
    assert bad[0] == never[0] == "error"
    assert "bad ended with exit code 3" in bad[1]
    assert "never was not started: bad, which it needs, is not finished" in never[1]
    before = contents(tasks[0].folder)
    assert len(slurm.submit(tasks[:1], settings, LOCAL)) == 0
    assert contents(tasks[0].folder) == before


def test_before_its_time_is_up_a_job_saves_and_is_queued_again(tmp_path):
    """Slurm signals all processes of a job; here we are Slurm."""
    task = fake(tmp_path, "run", "--epochs", 60, "--seconds", 0.05)
    settings = quick(tmp_path)
    (number,) = slurm.submit([task], settings, LOCAL)
    wait_for((task.folder / "progress.jsonl").exists)
    for pid in family(int(number)):
        os.kill(pid, signal.SIGUSR2)
    assert result(settings, number)[0] == "success"
    assert starts(task) == ["new", "--c"]
    assert "saved" in settings.log("run").read_text()
    assert final(task)["value"] == value(60)


def family(controller):
    """Processes below submitit's controller."""
    found = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True)
    pairs = [tuple(map(int, line.split())) for line in found.stdout.splitlines()]
    below = {controller}
    for _ in range(4):
        below |= {pid for pid, parent in pairs if parent in below}
    return below - {controller}
