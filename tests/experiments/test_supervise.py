import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from nnunet_ext.experiments import pulse
from nnunet_ext.experiments.guardian import LostError, guarded
from nnunet_ext.experiments.outcome import FULL, HUNG, INCOMPLETE, STOPPED
from nnunet_ext.experiments.pulse import Pulse
from nnunet_ext.experiments.state import State, is_locked, on_disk, state_of
from nnunet_ext.experiments.supervise import last_lines, run
from tests.experiments.fakes import contents, fake, final, quick, starts, value


def wait_for(condition, seconds=20):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.02)


def test_a_task_is_done_and_its_log_kept(tmp_path):
    task, settings = fake(tmp_path), quick(tmp_path)
    outcome = run(task, settings)
    assert (outcome.code, outcome.tries, outcome.lines, outcome.told) == (0, 1, (), "")
    assert outcome.done
    assert final(task) == {"epoch": 3, "value": value(3)}
    assert settings.log("run").read_text().splitlines()[0] == "$ " + " ".join(task.command)


def test_a_finished_run_is_not_touched(tmp_path):
    task, settings = fake(tmp_path), quick(tmp_path)
    run(task, settings)
    before = contents(tmp_path)
    outcome = run(task, settings)
    assert (outcome.code, outcome.tries) == (0, 0)
    assert contents(tmp_path) == before


def test_what_was_interrupted_goes_on(tmp_path):
    task, settings = fake(tmp_path, "run", "--at", "2:die"), quick(tmp_path, retries=0)
    outcome = run(task, settings)
    assert (outcome.code, outcome.tries) == (-signal.SIGKILL, 1)
    assert "was ended by signal 9" in outcome.told
    assert on_disk(task) is State.INTERRUPTED
    assert run(task, settings).done
    assert starts(task) == ["new", "--c"]
    assert final(task) == {"epoch": 3, "value": value(3)}


def test_a_failure_is_tried_twice_more_and_its_lines_are_shown(tmp_path):
    deeds = [f"{epoch}:fail" for epoch in range(4)]
    task = fake(tmp_path, "run", "--epochs", 5, "--at", *deeds)
    outcome = run(task, quick(tmp_path))
    assert (outcome.code, outcome.tries) == (3, 3)
    assert outcome.lines[-1] == "doing fail"
    assert "ended with exit code 3" in outcome.told
    assert starts(task) == ["new", "new", "--c"]
    assert run(task, quick(tmp_path)).done, "the fourth failure and the end"
    assert final(task)["value"] == value(5)


def test_an_end_without_a_result_is_a_failure(tmp_path):
    outcome = run(fake(tmp_path, "run", "--at", "1:nothing"), quick(tmp_path, retries=0))
    assert outcome.code == INCOMPLETE
    assert "its result is not there" in outcome.told


def test_being_asked_by_a_scheduler_is_no_failure(tmp_path):
    task = fake(tmp_path, "run", "--at", "0:leave", "1:leave", "2:leave")
    outcome = run(task, quick(tmp_path, retries=0))
    assert (outcome.code, outcome.tries) == (0, 4)
    assert final(task)["value"] == value(3)


def test_a_cut_checkpoint_of_stock_trainers_does_not_fail_for_ever(tmp_path):
    task = fake(tmp_path, "run", "--at", "2:cut")
    outcome = run(task, quick(tmp_path))
    assert (outcome.code, outcome.tries) == (0, 2)
    assert starts(task) == ["new", "new"]
    assert "checkpoint_latest.pth is damaged" in quick(tmp_path).log("run").read_text()


def test_a_hang_is_ended_and_goes_on(tmp_path):
    task = fake(tmp_path, "run", "--at", "2:hang")
    began = time.monotonic()
    outcome = run(task, quick(tmp_path, stale_minutes=0.02, grace_seconds=0.2, retries=9))  # a slow start may hang too
    assert outcome.done
    assert outcome.tries >= 2
    assert time.monotonic() - began < 100, "it waited for the hang to end"
    assert final(task)["value"] == value(3)


def test_a_hang_that_hears_nothing_is_killed_and_told(tmp_path):
    task = fake(tmp_path, "run", "--at", "0:hang", "--deaf")
    outcome = run(task, quick(tmp_path, stale_minutes=0.005, grace_seconds=0.1, retries=0))
    assert (outcome.code, outcome.tries) == (HUNG, 1)
    assert "nothing of what it writes changed" in outcome.told


def test_a_run_hangs_by_its_own_epochs(tmp_path):
    """Ten of its epochs without a change are a hang, however short the limit for all is."""
    now = [0.0]
    task = fake(tmp_path)
    settings = quick(tmp_path, stale_minutes=1)
    run(fake(tmp_path, "run", "--epochs", 2), settings)
    lines = (task.folder / "progress.jsonl").read_text().replace('"epoch": 0}', '"epoch": 100}', 1)
    (task.folder / "progress.jsonl").write_text(lines)
    assert pulse.epoch_seconds(task.folder) == 50, "the median of 100 and 0"
    beat = Pulse(task, settings, lambda: now[0])
    for seconds, expected in ((59, False), (61, False), (499, False), (501, True)):
        now[0] = seconds
        assert beat.hangs() is expected
    (task.folder / "validation" / "case.nii.gz").touch()
    now[0] = 600
    assert not beat.hangs()
    settings.log("run").write_text("another line")
    now[0] = 1200
    assert beat.quiet_for() == 0


def test_a_full_disk_starts_nothing(tmp_path):
    task = fake(tmp_path)
    outcome = run(task, quick(tmp_path, free_gib=1e9))
    assert (outcome.code, outcome.tries) == (FULL, 0)
    assert "make room and start the same sweep again" in outcome.told
    assert not task.folder.exists()


def test_a_second_sweep_waits_and_finds_it_finished(tmp_path):
    task, settings = fake(tmp_path, "run", "--seconds", 0.3), quick(tmp_path)
    outcomes = {}
    first = threading.Thread(target=lambda: outcomes.update(first=guarded(task, settings)))
    first.start()
    wait_for((task.folder / "progress.jsonl").exists)
    assert state_of(task) is State.RUNNING
    second = guarded(task, settings)
    first.join()
    assert (second.code, second.tries) == (0, 0)
    assert outcomes["first"].tries == 1
    assert starts(task) == ["new"]


def test_asked_to_stop_it_saves_and_says_so(tmp_path):
    task, settings = fake(tmp_path, "run", "--epochs", 1000, "--seconds", 0.01), quick(tmp_path)
    outcome = run(task, settings, asked=(task.folder / "progress.jsonl").exists)
    assert (outcome.code, outcome.tries) == (STOPPED, 1)
    assert outcome.lines[-1] == "saved"
    assert on_disk(task) is State.INTERRUPTED
    assert run(task, settings, asked=lambda: True).tries == 0


def test_the_lines_of_a_log_are_its_last(tmp_path):
    log = tmp_path / "log"
    log.write_text("\n".join(map(str, range(100))) + "\nfirst\rsecond\n\n")
    assert last_lines(log) == (*map(str, range(81, 100)), "second")
    log.write_bytes(b"")
    assert last_lines(log) == ("",)


def test_workers_that_a_command_leaves_are_ended(tmp_path):
    mark = tmp_path / "pid"
    code = f"import subprocess; p = subprocess.Popen(['sleep', '600']); open({str(mark)!r}, 'w').write(str(p.pid))"
    task = fake(tmp_path)
    left = type(task)("a", "train", (sys.executable, "-c", code), (sys.executable, "-c", code), task.folder)
    run(left, quick(tmp_path, retries=0))
    pid = int(mark.read_text())
    wait_for(lambda: not is_alive(pid))


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


# --- the guardian

SUPERVISOR = (
    "import json, sys; from nnunet_ext.experiments import guardian, settings, tasks; "
    "task, wishes = json.loads(sys.argv[1]); "
    "guardian.guarded(tasks.task_of(task), settings.settings_of(wishes))"
)


def worker(task, settings):
    """A process that has a task done, as a worker of Ray does."""
    import json

    request = json.dumps([task.as_dict(), settings.as_dict()])
    return subprocess.Popen([sys.executable, "-c", SUPERVISOR, request])


def test_a_worker_that_is_killed_leaves_no_training_to_race_with(tmp_path):
    task, settings = fake(tmp_path, "run", "--epochs", 30, "--seconds", 0.05), quick(tmp_path)
    process = worker(task, settings)
    wait_for((task.folder / "progress.jsonl").exists)
    process.kill()
    process.wait()
    outcome = guarded(task, settings)
    assert outcome.done, outcome.lines
    assert final(task)["value"] == value(30)
    assert starts(task) == ["new", "--c"]
    assert "saved" in settings.log("run").read_text(), "it was not asked to save itself"


def test_a_guardian_that_is_killed_takes_the_training_with_it(tmp_path):
    task, settings = fake(tmp_path, "run", "--epochs", 200, "--seconds", 0.02), quick(tmp_path)
    lost = []

    def work():
        with pytest.raises(LostError, match="code -9"):
            guarded(task, settings)
        lost.append(1)

    thread = threading.Thread(target=work)
    thread.start()
    wait_for((task.folder / "progress.jsonl").exists)
    (guardian,) = children(os.getpid(), "experiments.guardian")
    os.kill(guardian, signal.SIGKILL)
    thread.join()
    assert lost
    assert not is_locked(task)
    assert guarded(task, settings).done, "the training lived on and raced"
    assert final(task)["value"] == value(200)


def children(parent, word):
    """Processes that this one has started, of which the command has a word."""
    words = ["ps", "-o", "pid=,args=", "--ppid", str(parent)]
    found = subprocess.run(words, capture_output=True, text=True, check=True)
    return [int(line.split()[0]) for line in found.stdout.splitlines() if word in line]


@pytest.mark.parametrize("deaf", [False, True])
def test_the_stop_file_has_the_training_save_itself(tmp_path, deaf):
    words = ["--epochs", 1000, "--seconds", 0.02, *["--deaf"] * deaf]
    task, settings = fake(tmp_path, "run", *words), quick(tmp_path, grace_seconds=0.2 if deaf else 5)
    settings.folder.mkdir()

    def stop():
        wait_for((task.folder / "progress.jsonl").exists)
        settings.stop.touch()

    asking = threading.Thread(target=stop)
    asking.start()
    outcome = guarded(task, settings)
    asking.join()
    assert outcome.code == STOPPED
    assert ("saved" in outcome.lines) is not deaf
    assert not is_locked(task)


def test_bad_input_of_a_task_is_an_outcome(tmp_path):
    task = fake(tmp_path)
    (tmp_path / "images").mkdir()
    words = ("x", "-i", str(tmp_path / "images"))
    outcome = guarded(type(task)("a", "predict", words, words, task.folder), quick(tmp_path))
    assert outcome.code == 2
    assert "holds no image" in outcome.told


def test_a_command_that_is_not_there_is_an_outcome(tmp_path):
    task = fake(tmp_path)
    outcome = guarded(type(task)("a", "train", ("no-such-command",), (), task.folder), quick(tmp_path))
    assert outcome.code == 1
    assert "no-such-command" in outcome.told
