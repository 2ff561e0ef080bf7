import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from nnunet_ext.experiments import pool
from nnunet_ext.experiments.outcome import FULL, SKIPPED, STOPPED
from nnunet_ext.experiments.pool import run_all
from nnunet_ext.experiments.state import State, state_of
from nnunet_ext.experiments.tasks import Needs
from tests.experiments.fakes import contents, fake, final, quick, starts, value

ray = pytest.importorskip("ray")


MARK = "NNUNET_EXT_TEST_OF_THE_POOL"
WORDS = (b"raylet", b"gcs_server", b"ray::", b"default_worker.py", b"experiments.guardian", b"fake_training")


@pytest.fixture(autouse=True)
def nothing_remains(monkeypatch):
    """No process of Ray after a test, of those that the test has started: other tests run beside it."""
    mark = f"{MARK}={uuid4()}"
    monkeypatch.setenv(*mark.split("="))
    yield
    until = time.monotonic() + 20
    while left := rays(mark.encode()):
        assert time.monotonic() < until, left
        time.sleep(0.2)


def rays(mark):
    """Command lines of the processes with this mark in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            marked = mark in (folder / "environ").read_bytes()
            line = (folder / "cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it has ended, or is somebody else's
        found += [line] if marked and any(word in line for word in WORDS) else []
    return found


def small(root, **changes):
    return replace(quick(root, cpus=2, gpus=0), **changes)


def test_a_whole_experiment(tmp_path):
    """Dependencies, failures, retries and what was finished before, in one sweep and its repetition."""
    good = [fake(tmp_path, f"good{number}") for number in range(3)]
    bad = fake(tmp_path, "bad", "--epochs", 9, "--at", *(f"{epoch}:fail" for epoch in range(3)))
    after = fake(tmp_path, "after", after=("good0", "good1"))
    never = fake(tmp_path, "never", after=("bad",))
    tasks = [after, never, *good, bad]
    subprocess.run(good[2].command, check=True)
    before = contents(good[2].folder)
    found = {outcome.name: outcome for outcome in run_all(tasks, small(tmp_path))}
    assert list(found) == [task.name for task in tasks]
    assert {name: outcome.code for name, outcome in found.items()} == {
        **{name: 0 for name in ("after", "good0", "good1", "good2")},
        "bad": 3,
        "never": SKIPPED,
    }
    assert (found["good2"].tries, found["good0"].tries, found["bad"].tries) == (0, 1, 3)
    assert found["bad"].lines[-1] == "doing fail"
    assert contents(good[2].folder) == before
    assert (good[0].folder / "nice.txt").read_text() == str(os.nice(0))
    ended, began = (task.folder / name for task, name in ((good[1], "checkpoint_final.pth"), (after, "started.txt")))
    assert ended.stat().st_mtime < began.stat().st_mtime


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda root: [fake(root, "a"), fake(root, "a")], "a is there twice"),
        (lambda root: [fake(root, "a", after=("b",))], "wait for b, which is not among them"),
        (lambda root: [fake(root, "a", after=("b",)), fake(root, "b", after=("a",))], "in a circle: "),
        (lambda root: [fake(root, "a"), replace(fake(root, "b"), folder=fake(root, "a").folder)], "is that of two"),
    ],
)
def test_tasks_that_contradict_each_other(tmp_path, make, said):
    with pytest.raises(ValueError, match=said):
        run_all(make(tmp_path), small(tmp_path))


def test_what_fits_nowhere_is_said_before_anything_starts(tmp_path):
    nodes = [{"Resources": {"CPU": 2.0, "memory": 3e9}}]
    tasks = [fake(tmp_path, "a"), fake(tmp_path, "b", needs=Needs(cpus=1, gpus=0.5))]
    pool._check_room(tasks[:1], nodes, small(tmp_path))
    with pytest.raises(ValueError, match=r"b needs 0\.5 GPUs, and this machine has 0"):
        pool._check_room(tasks, nodes, small(tmp_path))
    pool._check_room(tasks, nodes, small(tmp_path, address="somewhere"))  # a cluster may grow


def test_without_the_extra_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r'pip install "nnunet_ext\[sweep\]"'):
        run_all([fake(tmp_path)], small(tmp_path))


class Slow:
    """Stands for a Ray that does not start in time."""

    def __init__(self, times):
        self.times, self.ended = times, 0

    def init(self, **_):
        self.times -= 1
        if self.times >= 0:
            raise Exception("The current node timed out during startup.\nMore.")

    def shutdown(self):
        self.ended += 1


@pytest.mark.parametrize("times", [2, 99])
def test_a_ray_that_does_not_start_in_time_is_started_again(tmp_path, monkeypatch, times):
    tasks, slow_ray = [fake(tmp_path)], Slow(times)
    monkeypatch.setitem(sys.modules, "ray", slow_ray)
    monkeypatch.setattr(pool, "_check_room", lambda *_: None)
    slow_ray.nodes = list
    monkeypatch.setattr(
        pool.Dispatch, "loop", lambda self, *_: self.outcomes.update(run=pool.Outcome("run", 0, tries=1))
    )
    if times == 2:
        assert run_all(tasks, small(tmp_path))[0].done
        assert slow_ray.ended == 3
    else:
        with pytest.raises(pool.HeadLostError, match=r"^The current node timed out during startup\.$"):
            run_all(tasks, small(tmp_path))
        assert slow_ray.ended == pool.HEADS


def test_an_address_without_a_cluster_is_said(tmp_path):
    with pytest.raises(ValueError, match=r"There is no Ray cluster at 127\.0\.0\.1:9"):
        run_all([fake(tmp_path)], small(tmp_path, address="127.0.0.1:9"))


def test_finished_experiments_need_no_ray(tmp_path, monkeypatch):
    task = fake(tmp_path)
    subprocess.run(task.command, check=True)
    monkeypatch.setitem(sys.modules, "ray", None)
    assert [outcome.tries for outcome in run_all([task], small(tmp_path))] == [0]


# --- the dispatcher, with something that stands for Ray


class Place:
    """Stands for Ray: a task is done when it is waited for, or raises."""

    def __init__(self, answers):
        self.answers, self.asked, self.exceptions = answers, [], ray.exceptions

    def remote(self, max_retries):
        assert max_retries == 0

        def made(function):
            return self

        return made

    def options(self, **options):
        self.asked.append(options)

        class Call:
            def remote(_, task, settings):  # noqa: N805 - self is taken
                return task.name

        return Call()

    def wait(self, references, timeout):
        return references[:1], references[1:]

    def get(self, reference):
        answer = self.answers[reference].pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def dispatched(root, tasks, answers, **changes):
    place = Place(answers)
    dispatch = pool.Dispatch(tasks, small(root, **changes), {})
    dispatch.loop(place, pool.Asked())
    return dispatch.outcomes, place


def test_what_is_lost_is_submitted_again_until_it_is_too_often(tmp_path):
    died = ray.exceptions.WorkerCrashedError()
    answers = {
        "a": [died, pool.LostError("killed"), pool.Outcome("a", 0, 1)],
        "b": [died] * 99,
    }
    outcomes, place = dispatched(tmp_path, [fake(tmp_path, "a"), fake(tmp_path, "b")], answers)
    assert (outcomes["a"].code, outcomes["b"].code) == (0, pool.LOST)
    assert len(place.asked) == 3 + pool.LOSSES + 1


def test_needs_become_resources(tmp_path):
    task = fake(tmp_path, "a", needs=Needs(cpus=2, gpus=0.25, memory_mib=3))
    _, place = dispatched(tmp_path, [task], {"a": [pool.Outcome("a", 0)]})
    assert place.asked == [{"name": "a", "num_cpus": 2, "num_gpus": 0.25, "memory": 3 * 2**20}]


def test_a_full_disk_stops_what_has_not_begun(tmp_path):
    answers = {"a": [pool.Outcome("a", FULL, told="0.1 GiB are free.")]}
    outcomes, place = dispatched(tmp_path, [fake(tmp_path, "a"), fake(tmp_path, "b")], answers, jobs=1)
    assert [outcome.code for outcome in outcomes.values()] == [FULL, FULL]
    assert len(place.asked) == 1
    assert "b was not started: 0.1 GiB are free." in outcomes["b"].told


def test_variables_of_nnunet_travel_and_the_tasks_win(tmp_path, monkeypatch):
    monkeypatch.setenv("nnUNet_raw", "mine")
    monkeypatch.setenv("nnUNet_results", "mine")
    task = replace(fake(tmp_path), environment={"nnUNet_results": "its"})
    found = pool.carried(task).environment
    assert (found["nnUNet_raw"], found["nnUNet_results"]) == ("mine", "its")


# --- kills

DRIVER = """
import json, logging, sys
from nnunet_ext.experiments import pool, settings, tasks
from pathlib import Path
logging.basicConfig(level="INFO", stream=sys.stdout)
found = pool.run_all(tasks.read(Path(sys.argv[1])), settings.settings_of(json.loads(sys.argv[2])))
sys.exit(max(outcome.code for outcome in found))
"""


def driver(root, tasks, settings):
    import json

    from nnunet_ext.experiments.tasks import write

    write(tasks, root / "tasks.json")
    words = [sys.executable, "-c", DRIVER, str(root / "tasks.json"), json.dumps(settings.as_dict())]
    return subprocess.Popen(words, start_new_session=True)


def wait_for(condition, seconds=60):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.05)


def slow(root, number=3):
    return [fake(root, f"slow{i}", "--epochs", 40, "--seconds", 0.05) for i in range(number)]


def test_a_driver_that_is_asked_to_stop_waits_for_the_checkpoints(tmp_path):
    tasks, settings = slow(tmp_path), small(tmp_path)
    process = driver(tmp_path, tasks, settings)
    wait_for(lambda: all((task.folder / "progress.jsonl").exists() for task in tasks[:2]))
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == STOPPED
    for task in tasks[:2]:
        assert settings.log(task.name).read_text().endswith("saved\n")
    assert not tasks[2].folder.exists()
    assert all(outcome.done for outcome in run_all(tasks, settings))
    assert [final(task)["value"] for task in tasks] == [value(40)] * 3
    assert [starts(task) for task in tasks] == [["new", "--c"], ["new", "--c"], ["new"]]


def test_a_worker_that_is_killed_loses_nothing(tmp_path):
    tasks, settings = slow(tmp_path), small(tmp_path)
    process = driver(tmp_path, tasks, settings)
    wait_for(lambda: all((task.folder / "progress.jsonl").exists() for task in tasks[:2]))
    os.kill(below(process.pid, "ray::slow")[0], signal.SIGKILL)
    assert process.wait(120) == 0
    assert [final(task)["value"] for task in tasks] == [value(40)] * 3
    assert sorted(len(starts(task)) for task in tasks) == [1, 1, 2]


@pytest.fixture
def two_nodes(monkeypatch):
    """A cluster of two machines with a core each, on loopback."""
    for name, setting in pool.RAY.items():
        monkeypatch.setenv(name, setting)
    from ray._private import ray_constants
    from ray.cluster_utils import Cluster

    monkeypatch.setattr(ray_constants, "ENABLE_RAY_CLUSTER", False)  # it would translate 127.0.0.1 into the machine's
    one = {"num_cpus": 1, "object_store_memory": pool.STORE, "node_ip_address": pool.LOOPBACK}
    cluster = Cluster(initialize_head=True, head_node_args={**one, "include_dashboard": False})
    cluster.second = cluster.add_node(**one)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def test_two_machines_share_the_work_and_one_may_die(tmp_path, two_nodes):
    tasks, settings = slow(tmp_path, 4), quick(tmp_path, address=two_nodes.address)
    outcomes = []
    work = threading.Thread(target=lambda: outcomes.extend(run_all(tasks, settings)))
    work.start()
    wait_for(lambda: sum(state_of(task) is State.RUNNING for task in tasks) == 2)  # and each machine has one core
    two_nodes.remove_node(two_nodes.second, allow_graceful=False)
    work.join(200)
    assert [outcome.code for outcome in outcomes] == [0] * 4
    assert [final(task)["value"] for task in tasks] == [value(40)] * 4
    assert sum(len(starts(task)) for task in tasks) in (4, 5)  # the lost one may have ended just before its machine did


def below(parent, word):
    """Descendants of a process, of which the command has a word."""
    found = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True)
    lines = [line.split(None, 2) for line in found.stdout.splitlines()]
    family, chosen = {parent}, []
    for _ in range(4):
        for pid, of, args in lines:
            if int(of) in family and int(pid) not in family:
                family.add(int(pid))
                chosen += [int(pid)] if word in args.split()[0] else []
    return chosen
