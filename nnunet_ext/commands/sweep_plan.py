"""What a sweep will do: read, checked against nnU-Net's folders and the machine, and told before anything starts."""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_ext.commands import sweep_cases
from nnunet_ext.commands.preprocessed import dataset_folder, dataset_number, read_plans
from nnunet_ext.commands.table import aligned
from nnunet_ext.experiments import estimate, fairness, finish, hardware
from nnunet_ext.experiments.file import Sweep
from nnunet_ext.experiments.hardware import Machine, Predicted
from nnunet_ext.experiments.matrix import Matrix, detector_of, matrix_of
from nnunet_ext.experiments.methods import Method, Methods, methods_of
from nnunet_ext.experiments.places import Places, check_data
from nnunet_ext.experiments.ready import check_end, check_references
from nnunet_ext.experiments.tasks import Needs, Task
from nnunet_ext.trainers.progress_line import duration

Paces = Mapping[str, estimate.Pace]


@dataclass(frozen=True)
class Plan:
    """A checked experiment.

    Attributes:
        sweep: as it was asked for.
        number: of the dataset.
        places: of the dataset.
        methods: the rows.
        machine: this one.
        memory: trainer's name without the seed -> predicted memory.
        needs: the same names -> what their commands need.
        matrix: the commands.
    """

    sweep: Sweep
    number: int
    places: Places
    methods: Methods
    machine: Machine
    memory: Mapping[str, Predicted]
    needs: Mapping[str, Needs]
    matrix: Matrix

    @property
    def rows(self) -> tuple[Method, ...]:
        """All that is trained: the methods, and the detector."""
        return (*self.methods.chosen, *([detector_of(self.sweep)] if self.sweep.cascade else []))

    @property
    def environment(self) -> dict[str, str]:
        """Variables of all commands."""
        return hardware.environment_of(self.sweep, self.machine)

    def configuration_of(self, method: Method) -> str:
        """In which a row is trained."""
        cascade = self.sweep.cascade
        return cascade.configuration if cascade and method not in self.methods.chosen else self.sweep.configuration

    def plans_of(self, method: Method) -> str:
        """The plans of a row."""
        cascade = self.sweep.cascade
        own = cascade.plans if cascade and method not in self.methods.chosen else None
        return own or self.sweep.plans

    def at_the_end(self, out: Path, done: Callable[[Task], bool], jobs: int = 1) -> list[str]:
        """The words of the command that makes the report: ``nnunet_ext compare`` or ``outcomes``.

        Args:
            out: folder of the report.
            done: whether a task has its result.
            jobs: processes that evaluate.
        """
        if not self.methods.case_level:
            return finish.compare_command(self.sweep, self.matrix, out, jobs)
        tested = [task for task in self.matrix.of("predict") if done(task)] if sweep_cases.truth_is_known(self) else []
        return finish.outcomes_command(self.sweep, self.matrix, out, tested)


def places_of(sweep: Sweep) -> Places:
    """The dataset's folders; ValueError where they lack something."""
    folder = dataset_folder(sweep.dataset)
    return Places.of(folder, read_plans(folder, sweep.plans))


def plan_of(sweep: Sweep, known: Callable[[str], bool] | None = None) -> Plan:
    """Reads and checks everything; nothing is written.

    Args:
        sweep: the experiment.
        known: whether nnU-Net finds a trainer that is none of ours (default: its own search).

    Raises:
        ValueError: what would stop a run, before any begins.
    """
    places = places_of(sweep)
    number = dataset_number(places.preprocessed)
    methods = methods_of(sweep, known or _nnunet_finds)
    check_data(places, sweep.configuration, sweep.folds, number, sweep.plans)
    machine = hardware.this_machine(sweep.device)
    draft = Plan(sweep, number, places, methods, machine, {}, {}, Matrix((), {}, None))
    if methods.case_level:
        sweep_cases.check(draft)
    else:
        sweep_cases.refuse_keys(sweep)
        _check_detector(draft)
    memory = _memory(draft)
    needs = {name: hardware.needs_of(sweep, each, machine) for name, each in memory.items()}
    matrix = matrix_of(sweep, methods.chosen, places, number, needs, draft.environment)
    check_end(sweep, methods.chosen, machine)
    if (test := matrix.test) and test.labels:
        ending = places.dataset_json["file_ending"]
        if methods.case_level:
            sweep_cases.check_table(test.images, test.labels, ending)
        else:
            check_references(test, ending)
    return Plan(sweep, number, places, methods, machine, memory, needs, matrix)


def _nnunet_finds(name: str) -> bool:
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    try:
        return recursive_find_trainer_class_by_name(name) is not None
    except RuntimeError:  # what nnU-Net says of a name that it does not find
        return False


def _check_detector(plan: Plan) -> None:
    cascade = plan.sweep.cascade
    if cascade is None:
        return
    plans = cascade.plans or plan.sweep.plans
    places = Places.of(plan.places.preprocessed, read_plans(plan.places.preprocessed, plans))
    if cascade.configuration not in places.plans["configurations"]:
        raise ValueError(
            f"The plans {plans} have no configuration {cascade.configuration} for the detector; run "
            f"nnunet_ext plan-roi -d {plan.number} -p {plans}."
        )
    check_data(places, cascade.configuration, plan.sweep.folds, plan.number, plans)


def _memory(plan: Plan) -> dict[str, Predicted]:
    """Of every row; ValueError if one does not fit this machine."""
    from tqdm import tqdm

    found, refused = {}, []
    for method in tqdm(plan.rows, "predicting memory", unit="network", disable=None, leave=False):
        configuration = plan.places.configuration(plan.configuration_of(method))
        predicted = hardware.predicted(method, configuration, plan.places.dataset_json, plan.sweep.device)
        found[method.trainer] = predicted
        reason = hardware.refusal(method.trainer, predicted, plan.sweep, plan.machine)
        refused += [reason] if reason else []
    if refused:
        raise ValueError("; ".join(refused) + ".")
    return found


# --- what is told


def paces_of(plan: Plan) -> dict[str, estimate.Pace]:
    """Trainer's name without the seed -> pace, of those that an earlier run tells."""
    found = {}
    for method in plan.rows:
        names = plan.plans_of(method), plan.configuration_of(method)
        if pace := estimate.pace(method, plan.places.results, *names, plan.sweep.device):
            found[method.trainer] = pace
    return found


def seconds_of(plan: Plan, paces: Paces) -> dict[str, float]:
    """Trainer's name without the seed -> seconds of one training, without its final validation."""
    found = {}
    for method in plan.rows:
        recipe = estimate.recipe_of(method)
        if recipe and method.trainer in paces:
            found[method.trainer] = paces[method.trainer].of(recipe)
    return found


def dry_run(plan: Plan, paces: Paces, states: Callable[[Task], str]) -> str:
    """Everything that will be done and what is known of it.

    Args:
        plan: the experiment.
        paces: of the rows that are known.
        states: what lies in nnU-Net's folders of a task, in a word.
    """
    parts = [_head(plan), _rows(plan, paces), _commands(plan, paces, states), _total(plan, paces, states)]
    configuration = plan.places.configuration(plan.sweep.configuration)
    parts.append(fairness.note(plan.methods.chosen, configuration, len(plan.sweep.seeds)))
    return "\n\n".join(filter(None, parts))


def _head(plan: Plan) -> str:
    sweep, kinds = plan.sweep, {kind: len(plan.matrix.of(kind)) for kind in ("train", "predict", "cascade")}
    test = plan.matrix.test
    lines = [
        f"{plan.places.dataset}, {sweep.configuration}, {sweep.plans}: {len(plan.methods.chosen)} methods, seeds "
        f"{_listed(sweep.seeds)}, folds {_listed(sweep.folds)}: {kinds['train']} trainings, "
        f"{kinds['predict'] + kinds['cascade']} predictions of held-out images"
        + (f" ({test.images})." if test else " (there are none)."),
        *(f"{name} is left out: it {reason}." for name, reason in plan.methods.left_out.items()),
    ]
    if test and not (sweep_cases.truth_is_known(plan) if plan.methods.case_level else test.labels):
        what = "targets" if plan.methods.case_level else "labels"
        lines.append(f"The held-out images have no {what}, so their predictions are not evaluated.")
    if plan.places.splits is None and any(fold != "all" for fold in sweep.folds):
        lines.append("splits_final.json will be made before anything starts, as nnU-Net makes it.")
    return "\n".join(lines)


def _listed(values: Any) -> str:
    return " ".join(map(str, values))


def _rows(plan: Plan, paces: Paces) -> str:
    """One line a method: memory, what it asks of the machine, time."""
    seconds = seconds_of(plan, paces)
    rows = [["trainer", "seeds", "memory of a step", "asks for", "one training takes", "measured in"]]
    for method in plan.rows:
        known = paces.get(method.trainer)
        time = duration(seconds[method.trainer]) if method.trainer in seconds else "not known"
        seeds = _listed("-" if seed is None else seed for seed in method.seeds)
        asked = _asked(plan.needs[method.trainer])
        rows.append(
            [
                method.trainer,
                seeds,
                _memory_of(plan, method),
                asked,
                time,
                known.source if known else "--probe measures",
            ]
        )
    return aligned(rows) + f"\n{_hardware(plan)}"


def _memory_of(plan: Plan, method: Method) -> str:
    memory = plan.memory[method.trainer]
    if memory.mib is None:
        return "not known"
    return f"{memory.mib} MiB" + (f" without {', '.join(memory.without)}" if memory.without else "")


def _asked(needs: Needs) -> str:
    share = f"{needs.gpus:g} GPU, " if needs.gpus else ""
    return f"{share}{needs.cpus:g} cores, {needs.memory_mib} MiB of main memory"


def _hardware(plan: Plan) -> str:
    machine, sweep = plan.machine, plan.sweep
    if sweep.address:
        return f"The runs go to the Ray cluster at {sweep.address}; what fits there, Ray decides."
    card = hardware.card_mib(sweep, machine)
    gpus = f"{len(machine.gpus_mib)} GPUs of {card} MiB, " if sweep.device == "cuda" else ""
    return f"This machine has {gpus}{machine.cores} cores and {machine.memory_mib} MiB of main memory."


def _commands(plan: Plan, paces: Paces, states: Callable[[Task], str]) -> str:
    """One line a run, the command last so that it can be pasted."""
    seconds = seconds_of(plan, paces)
    rows = [["state", "memory", "time", "command"]]
    for task in plan.matrix.tasks:
        name = plan.matrix.method_of[task.name]
        time = duration(seconds[name]) if task.kind == "train" and name in seconds else "-"
        rows.append([states(task), f"{plan.needs[name].memory_mib} MiB", time, shlex.join(task.command)])
    exports = " ".join(f"{name}={value}" for name, value in plan.environment.items())
    last = shlex.join(plan.at_the_end(Path(plan.sweep.out, f"{finish.FOLDER}_..."), lambda _: True))
    return f"{aligned(rows)}\n\nVariables of every command: export {exports}\n\nAt the end: {last}"


def together(plan: Plan) -> int:
    """How many runs this machine holds at once, as far as cores, memory and GPUs tell."""
    needs, machine = list(plan.needs.values()), plan.machine
    rooms = [machine.cores / max(each.cpus for each in needs)]
    rooms.append(machine.memory_mib / max(1, *(each.memory_mib for each in needs)))
    if any(each.gpus for each in needs) and machine.gpus_mib:
        rooms.append(len(machine.gpus_mib) * int(1 / max(each.gpus for each in needs)))
    return max(1, min(int(min(rooms)), plan.sweep.jobs or len(plan.matrix.tasks)))


def _total(plan: Plan, paces: Paces, states: Callable[[Task], str]) -> str:
    seconds = seconds_of(plan, paces)
    left = [plan.matrix.method_of[task.name] for task in plan.matrix.of("train") if states(task) != "finished"]
    if not left:
        return "All trainings are finished."
    if unknown := sorted({name for name in left if name not in seconds}):
        return f"How long it takes is not known: nothing has measured {', '.join(unknown)}; --probe does."
    if plan.sweep.address:
        return f"The trainings left are about {duration(sum(seconds[name] for name in left))} of runs."
    at_once = together(plan)
    total = duration(sum(seconds[name] for name in left) / at_once)
    return f"The trainings left take about {total} with {at_once} at once, without final validations and predictions."


def folder_of(plan_places: Places, sweep: Sweep, file: Path | None) -> Path:
    """The experiment's own folder, for logs: the same for the same file, so that a restart finds it."""
    name = sweep.name or (file.stem if file else "sweep")
    return plan_places.results / "sweeps" / name
