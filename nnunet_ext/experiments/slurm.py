"""The same tasks as job arrays of Slurm, by submitit; the state rule is the same: a job that runs twice does no harm.

Slurm signals all processes of a job before its time is up. The training and its guardian ignore submitit's SIGUSR2;
submitit's own process has the guardian end, which has the training save itself (exit code 75), and puts the job back
into the queue, where it goes on with ``--c``.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from graphlib import TopologicalSorter
from itertools import groupby
from typing import Any

from nnunet_ext.experiments.guardian import Guard
from nnunet_ext.experiments.pool import carried, check
from nnunet_ext.experiments.settings import Settings
from nnunet_ext.experiments.state import State, on_disk
from nnunet_ext.experiments.tasks import Needs, Task

CLUSTER = "slurm"
MOST_TIMEOUTS = 100  # of a job: it goes on after each
MINUTES = 24 * 60  # of a job, where the options say nothing


def submit(tasks: Sequence[Task], settings: Settings, options: Mapping[str, Any]) -> list[str]:
    """Writes and submits an array for the tasks that may begin together and need the same; returns the ids in order.

    Tasks whose result is there are left out. Those that wait for others begin when these have ended.

    Args:
        tasks: as for :func:`nnunet_ext.experiments.pool.run_all`.
        settings: of them ``jobs`` limits how many of an array run at once, ``grace_seconds`` is how long before its
            time is up a job is signalled. A share of a GPU becomes a whole one: Slurm shares none.
        options: of submitit's ``update_parameters``, such as ``timeout_min`` and ``slurm_partition``; ``cluster`` is
            ``slurm`` or, for trying it out, ``local``.

    Raises:
        ValueError: the extra ``sweep`` or Slurm is not there, or an option is unknown.
    """
    check(tasks)
    settings.folder.mkdir(parents=True, exist_ok=True)
    settings.stop.unlink(missing_ok=True)
    by_name = {task.name: task for task in tasks}
    ids: list[str] = []
    for level in levels(tasks):
        before = [number.partition("_")[0] for number in ids]
        for needs, group in groupby(level, key=lambda task: task.needs):
            executor = _executor(settings, needs, options, list(dict.fromkeys(before)))
            with executor.batch():  # submit and not map_array: submitit looks for ``checkpoint`` at what it is given
                needed = [(task, [by_name[name] for name in task.after]) for task in group]
                jobs = [executor.submit(Job(carried(task), others, settings)) for task, others in needed]
            ids += [job.job_id for job in jobs]
    return ids


def levels(tasks: Sequence[Task]) -> Iterator[list[Task]]:
    """Tasks that are not done, those first that wait for none; equal needs side by side."""
    waiting = {task.name: task for task in tasks if on_disk(task) is not State.FINISHED}
    sorter = TopologicalSorter({name: [o for o in task.after if o in waiting] for name, task in waiting.items()})
    sorter.prepare()
    while sorter.is_active():
        names = sorter.get_ready()
        yield sorted((waiting[name] for name in names), key=lambda task: (repr(task.needs), task.name))
        sorter.done(*names)


def parameters(needs: Needs, settings: Settings, before: Sequence[str]) -> dict[str, Any]:
    """What a job asks of Slurm, in submitit's words."""
    found: dict[str, Any] = {
        "name": "nnunet_ext",
        "timeout_min": MINUTES,
        "tasks_per_node": 1,
        "cpus_per_task": max(1, math.ceil(needs.cpus)),
        "gpus_per_node": math.ceil(needs.gpus),
        "slurm_signal_delay_s": math.ceil(settings.grace_seconds),
    }
    if needs.memory_mib:
        found["mem_gb"] = math.ceil(needs.memory_mib / 1024)
    if settings.jobs is not None:
        found["slurm_array_parallelism"] = settings.jobs
    if before:  # also where one of them failed: the others' tasks look for themselves
        found["slurm_dependency"] = ":".join(["afterany", *before])
    return found


def _executor(settings: Settings, needs: Needs, options: Mapping[str, Any], before: Sequence[str]) -> Any:
    try:
        import submitit
    except ModuleNotFoundError:
        raise ValueError('submitit is not installed: pip install "nnunet_ext[sweep]".') from None
    given = dict(options)
    cluster = given.pop("cluster", CLUSTER)
    try:
        executor = submitit.AutoExecutor(settings.folder / "slurm", cluster, slurm_max_num_timeout=MOST_TIMEOUTS)
        executor.update_parameters(**{**parameters(needs, settings, before), **given})
    except (RuntimeError, NameError) as error:  # no srun here; an unknown option
        raise ValueError(f"Slurm cannot take the tasks: {' '.join(str(error).split())}") from None
    return executor


class Job:
    """What submitit pickles for one task and calls on a machine of the cluster."""

    def __init__(self, task: Task, needed: Sequence[Task], settings: Settings) -> None:
        self.task, self.needed, self.settings = task, tuple(needed), settings
        self.guard: Guard | None = None

    def __call__(self) -> dict[str, Any]:
        """Has the task done.

        Raises:
            RuntimeError: it failed, which makes the job a failed one for Slurm.
        """
        for other in self.needed:
            if on_disk(other) is not State.FINISHED:
                raise RuntimeError(f"{self.task.name} was not started: {other.name}, which it needs, is not finished.")
        with Guard(self.task, self.settings) as self.guard:
            outcome = self.guard.outcome()
        if not outcome.done:
            raise RuntimeError("\n".join([outcome.told, *outcome.lines]))
        return outcome.as_dict()

    def checkpoint(self) -> Any:
        """Called by submitit, within its signal handler: the training saves itself; then the job is queued again."""
        import submitit

        if self.guard is not None:
            self.guard.end()
        return submitit.helpers.DelayedSubmission(Job(self.task, self.needed, self.settings))
