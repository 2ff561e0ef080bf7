"""Many tasks on the machines there are: Ray finds each a place; what is done stands in nnU-Net's folders alone.

Ray's own retries are off and its store holds outcomes only: a driver, a worker or a head that is killed loses nothing
but the time since the last checkpoints, and the same experiment started again goes on. Without an address Ray runs on
this machine for as long as the experiment does, bound to 127.0.0.1.
"""

import logging
import os
import platform
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter
from typing import Any

from nnunet_ext.experiments.guardian import LostError, guarded
from nnunet_ext.experiments.outcome import FULL, LOST, SKIPPED, STOPPED, Outcome
from nnunet_ext.experiments.settings import Settings
from nnunet_ext.experiments.state import State, on_disk
from nnunet_ext.experiments.tasks import Needs, Task

LOG = logging.getLogger("nnunet_ext.experiments")
LOOPBACK = "127.0.0.1"
STORE = 100 * 2**20  # bytes of shared memory: outcomes need next to nothing, and Ray takes 30 % of the memory by itself
MIB = 2**20
LOSSES = 10  # of one task with its worker or machine
HEADS = 5  # of Ray on this machine, one after the other
RAY: Mapping[str, str] = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_memory_monitor_refresh_ms": "0",  # it would kill our workers for the memory of other people's processes
    "RAY_kill_child_processes_on_worker_exit": "0",  # guardians end by themselves, after their training has saved
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a task without a GPU keeps the caller's CUDA_VISIBLE_DEVICES
}
"""Variables that Ray reads when it starts; those of the caller win."""


def run_all(tasks: Sequence[Task], settings: Settings) -> list[Outcome]:
    """Has all tasks done, each after those that it names; returns how they ended, in their order.

    SIGTERM or SIGINT has all runs save themselves; the tasks that are not done then have the code ``STOPPED``.

    Args:
        tasks: whose names are unique and whose ``after`` are among them.
        settings: how, and where.

    Raises:
        ValueError: the extra ``sweep`` is not installed, a task fits on no machine, or the tasks contradict each other.
    """
    check(tasks)
    settings.folder.mkdir(parents=True, exist_ok=True)
    settings.stop.unlink(missing_ok=True)
    outcomes: dict[str, Outcome] = {}
    for left in reversed(range(HEADS)):
        dispatch = Dispatch(tasks, settings, outcomes)
        try:
            dispatch.work()
            break
        except HeadLostError as error:
            LOG.warning("Ray has gone (%s); what was trained is saved.", error)
            if settings.address or not left:
                raise
    return [outcomes[task.name] for task in tasks]


class HeadLostError(RuntimeError):
    """Ray on this machine has ended or been killed; the same experiment started again goes on."""


def check(tasks: Sequence[Task]) -> None:
    """Refuses tasks that contradict each other.

    Raises:
        ValueError: with the names.
    """
    counted = Counter(task.name for task in tasks)
    if twice := [name for name, count in counted.items() if count > 1]:
        raise ValueError(f"Tasks have names of their own; {', '.join(twice)} is there twice.")
    if unknown := {name for task in tasks for name in task.after} - set(counted):
        raise ValueError(f"Tasks wait for {', '.join(sorted(unknown))}, which is not among them.")
    try:
        TopologicalSorter({task.name: task.after for task in tasks}).prepare()
    except CycleError as error:
        raise ValueError(f"Tasks wait for each other in a circle: {', '.join(error.args[1])}.") from None
    folders = Counter(task.folder for task in tasks)
    if shared := [str(folder) for folder, count in folders.items() if count > 1]:
        raise ValueError(f"Each task has a folder of its own; {', '.join(shared)} is that of two.")


class Dispatch:
    """Who waits, who runs, who has ended."""

    def __init__(self, tasks: Sequence[Task], settings: Settings, outcomes: dict[str, Outcome]) -> None:
        self.tasks, self.settings, self.outcomes = tasks, settings, outcomes
        for task in tasks:
            if task.name not in outcomes and on_disk(task) is State.FINISHED:
                outcomes[task.name] = Outcome(task.name, 0, where=platform.node())
                LOG.info("%s is finished already and is left as it is.", task.name)
        self.waiting = {task.name: task for task in tasks if task.name not in outcomes}
        self.running: dict[Any, Task] = {}
        self.losses: Counter[str] = Counter()

    def work(self) -> None:
        """Has Ray do what is not done.

        Raises:
            HeadLostError: Ray has gone; the outcomes until then are kept.
        """
        if self.waiting:
            with _ray(self.tasks, self.settings) as ray, _asked() as asked:
                self.loop(ray, asked)

    def loop(self, ray: Any, asked: "Asked") -> None:
        """Until nothing waits and nothing runs."""
        remote = ray.remote(max_retries=0)(guarded)
        while self.waiting or self.running:
            if asked.name and not self.settings.stop.exists():
                LOG.warning("%s: all runs save themselves and end.", asked.name)
                self.settings.stop.touch()
            self._skip(stopped=bool(asked.name))
            if not asked.name:
                self._submit(remote)
            if self.running:
                ready, _ = ray.wait(list(self.running), timeout=self.settings.poll_seconds)
                for reference in ready:
                    self._ended(ray, reference)

    def _skip(self, stopped: bool) -> None:
        """Gives up what waits in vain: for a task that failed, for room on the disk, or after a wish to stop."""
        full = next((outcome for outcome in self.outcomes.values() if outcome.code == FULL), None)
        for name, task in list(self.waiting.items()):
            failed = [other for other in task.after if other in self.outcomes and not self.outcomes[other].done]
            if stopped:
                self._note(Outcome(name, STOPPED, told=f"{name} was not started before the sweep was asked to stop."))
            elif failed:
                self._note(Outcome(name, SKIPPED, told=f"{name} was not started: {failed[0]}, which it needs, failed."))
            elif full is not None:
                self._note(Outcome(name, FULL, told=f"{name} was not started: {full.told}"))

    def _submit(self, remote: Any) -> None:
        for task in list(self.waiting.values()):
            if self.settings.jobs is not None and len(self.running) >= self.settings.jobs:
                return
            if all(name in self.outcomes for name in task.after):
                del self.waiting[task.name]
                place = remote.options(name=task.name, **_resources(task.needs))
                self.running[place.remote(carried(task), self.settings)] = task
                LOG.info("%s has been handed over.", task.name)

    def _ended(self, ray: Any, reference: Any) -> None:
        """Takes the outcome; what was lost with its worker or machine waits again."""
        task = self.running.pop(reference)
        try:
            self._note(ray.get(reference))
        except _losses(ray) as error:
            if isinstance(error, ray.exceptions.LocalRayletDiedError) and not self.settings.address:
                raise HeadLostError(_first_line(error)) from error
            self.losses[task.name] += 1
            LOG.warning("%s was lost (%s).", task.name, _first_line(error))
            if self.losses[task.name] > LOSSES:
                told = f"{task.name} was lost {LOSSES + 1} times with its worker or machine."
                self._note(Outcome(task.name, LOST, told=told))
            else:
                self.waiting[task.name] = task

    def _note(self, outcome: Outcome) -> None:
        self.waiting.pop(outcome.name, None)
        self.outcomes[outcome.name] = outcome
        if outcome.done:
            LOG.info("%s is done after %.0f s, tries: %d.", outcome.name, outcome.seconds, outcome.tries)
        else:
            LOG.error("%s%s", outcome.told, "".join(f"\n    {line}" for line in outcome.lines))


def carried(task: Task) -> Task:
    """The task with nnU-Net's variables of this process: a worker on another machine has none of them."""
    mine = {name: value for name, value in os.environ.items() if name.startswith("nnUNet")}
    return replace(task, environment={**mine, **task.environment})


def _resources(needs: Needs) -> dict[str, Any]:
    return {"num_cpus": needs.cpus, "num_gpus": needs.gpus, "memory": needs.memory_mib * MIB or None}


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _losses(ray: Any) -> tuple[type[Exception], ...]:
    """What Ray raises where a task's process or machine has gone."""
    found = ray.exceptions
    return LostError, found.WorkerCrashedError, found.NodeDiedError, found.OutOfMemoryError, found.LocalRayletDiedError


# --- Ray


@contextmanager
def _ray(tasks: Sequence[Task], settings: Settings) -> Iterator[Any]:
    """Ray, connected or started; it ends with this context."""
    for name, value in RAY.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ModuleNotFoundError:
        raise ValueError(
            'Ray is not installed, which runs tasks side by side: pip install "nnunet_ext[sweep]".'
        ) from None
    ray.init(**(_cluster(settings) if settings.address else _this_machine(settings)), log_to_driver=False)
    try:
        _check_room(tasks, ray.nodes(), settings)
        yield ray
    finally:
        ray.shutdown()


def _cluster(settings: Settings) -> dict[str, Any]:
    return {"address": settings.address}


def _this_machine(settings: Settings) -> dict[str, Any]:
    return {
        "address": "local",  # also where another Ray runs here
        "num_cpus": settings.cpus,
        "num_gpus": settings.gpus,
        "object_store_memory": STORE,
        "include_dashboard": False,
        "_node_ip_address": LOOPBACK,
    }


def _check_room(tasks: Sequence[Task], nodes: Sequence[Mapping[str, Any]], settings: Settings) -> None:
    """Refuses a task that would wait for ever; a cluster may grow, and is trusted.

    Raises:
        ValueError: with what the task asks for and what this machine has.
    """
    if settings.address:
        return
    has = nodes[0]["Resources"]
    for task in tasks:
        for what, asks, there in (
            ("cores", task.needs.cpus, has.get("CPU", 0)),
            ("GPUs", task.needs.gpus, has.get("GPU", 0)),
            ("MiB of memory", task.needs.memory_mib, has.get("memory", 0) / MIB),
        ):
            if asks > there:
                raise ValueError(f"{task.name} needs {asks:g} {what}, and this machine has {there:g} for the sweep.")


class Asked:
    """Which signal asked this process to stop."""

    name: str | None = None

    def receive(self, number: int, _frame: Any) -> None:
        """Notes the signal; the second one acts as it would without us."""
        if self.name is not None:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self.name = signal.Signals(number).name


@contextmanager
def _asked() -> Iterator[Asked]:
    """Listens for SIGTERM and SIGINT; entered after ``ray.init``, which sets a handler of its own."""
    asked = Asked()
    if threading.current_thread() is not threading.main_thread():  # where Python allows no handler
        yield asked
        return
    before = {number: signal.signal(number, asked.receive) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
