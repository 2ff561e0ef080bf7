"""What would only be seen at the end of an experiment, and is looked for before its beginning."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from nnunet_ext.evaluation.runs import VALIDATION
from nnunet_ext.experiments.file import Sweep
from nnunet_ext.experiments.hardware import Machine
from nnunet_ext.experiments.methods import Method
from nnunet_ext.experiments.places import TestSet
from nnunet_ext.experiments.state import PROBABILITIES, State, on_disk
from nnunet_ext.experiments.tasks import Task
from nnunet_ext.images.folder import cases_of
from nnunet_ext.networks.registry import PREFIX

SHOWN = 3  # names in a sentence


def check_end(sweep: Sweep, methods: Sequence[Method], machine: Machine) -> None:
    """Refuses what the comparison would refuse, or could not write.

    Args:
        sweep: the experiment.
        methods: the rows.
        machine: this one.

    Raises:
        ValueError: a reference that is no method, a place for reports that is a file, or more cores than there are.
    """
    trainers = {method.short for method in methods} | {
        m.named(seed).removeprefix(PREFIX) for m in methods for seed in m.seeds
    }
    if sweep.reference and sweep.reference.removeprefix(PREFIX) not in trainers:
        told = ", ".join(method.short for method in methods)
        raise ValueError(f"reference is {sweep.reference}, which is none of the methods {told}.")
    above = Path(sweep.out).absolute()
    blocked = next((path for path in (above, *above.parents) if path.exists() and not path.is_dir()), None)
    if blocked:
        raise ValueError(f"out is {sweep.out}, and {blocked} is a file; name a folder.")
    if not sweep.address and sweep.cores and sweep.cores > machine.cores and not sweep.slurm_options:
        raise ValueError(f"cores is {sweep.cores}, and this machine has {machine.cores}; ask for fewer.")


def check_references(test: TestSet, ending: str) -> None:
    """Refuses held-out images of which some have a reference segmentation and some have none, or none at all.

    Without a reference a case would count as a failure of every method.

    Args:
        test: with a folder of labels.
        ending: of the files.

    Raises:
        ValueError: with the cases.
    """
    assert test.labels is not None
    there = {path.name.removesuffix(ending) for path in test.labels.glob(f"*{ending}")}
    cases = list(cases_of(test.images, ending))
    lacking = [case for case in cases if case not in there]
    if lacking:
        named = f"{', '.join(lacking[:SHOWN])}{' ...' if len(lacking) > SHOWN else ''}"
        raise ValueError(
            f"{test.labels} has no reference of {len(lacking)} of the {len(cases)} held-out cases ({named}); add them, "
            "or move these images away."
        )


def without_probabilities(tasks: Sequence[Task]) -> str:
    """A sentence on trainings that were finished before anybody wanted probabilities, which no run of theirs makes."""
    wanted = [task for task in tasks if task.kind == "train" and "--npz" in task.command]
    finished = [task for task in wanted if on_disk(task, thoroughly=False) is State.FINISHED]
    found = [task for task in finished if not any((task.folder / VALIDATION).glob(f"*{PROBABILITIES}"))]
    if not found:
        return ""
    return (
        f"{len(found)} finished trainings kept no probabilities of their validation cases; this makes those of the "
        f"first, and the others' alike: {shlex.join(found[0].command)} --val"
    )
