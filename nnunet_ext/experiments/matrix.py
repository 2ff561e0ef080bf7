"""The matrix of an experiment: trainers x seeds x folds as nnU-Net's commands, and predictions of held-out images."""

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from nnunet_ext.experiments.file import Sweep
from nnunet_ext.experiments.methods import Method
from nnunet_ext.experiments.places import Places, TestSet, test_set
from nnunet_ext.experiments.tasks import Needs, Task
from nnunet_ext.trainers.grammar import parse
from nnunet_ext.trainers.naming import legal_name, networks_like, parts

TRAIN, PREDICT, CASCADE = "nnUNetv2_train", "nnUNetv2_predict", "nnUNetv2_predict_cascade"
PREDICT_CASES = ("nnunet_ext", "predict-cases")  # starts again: its table is written whole at the end
GOES_ON = {TRAIN: ("--c",), PREDICT: ("--continue_prediction",), CASCADE: ("--continue_prediction",)}


@dataclass(frozen=True)
class Matrix:
    """All commands of an experiment.

    Attributes:
        tasks: trainings first.
        method_of: name of a task -> trainer's name without the seed, of the detector its own.
        test: the held-out images.
    """

    tasks: tuple[Task, ...]
    method_of: Mapping[str, str]
    test: TestSet | None

    def of(self, *kinds: str) -> tuple[Task, ...]:
        """The tasks of these kinds."""
        return tuple(task for task in self.tasks if task.kind in kinds)


def matrix_of(
    sweep: Sweep,
    methods: Iterable[Method],
    places: Places,
    number: int,
    needs: Mapping[str, Needs],
    environment: Mapping[str, str],
) -> Matrix:
    """The matrix.

    Args:
        sweep: the experiment.
        methods: its rows.
        places: of its dataset.
        number: of the dataset.
        needs: trainer's name without the seed -> what its commands need.
        environment: variables of all commands.

    Raises:
        ValueError: held-out images that are not there, a cascade without them or without a detector.
    """
    methods = tuple(methods)
    test = test_set(sweep, places, any(method.case_level for method in methods))
    make = partial(_Row, sweep, places, number, test, needs, environment)
    rows = [make(method) for method in methods]
    tasks: list[Task] = []
    method_of: dict[str, str] = {}
    detector = _detector(make, sweep, places, test) if sweep.cascade else None
    for row in [*([detector] if detector else []), *rows]:
        of_row = [task for seed in row.method.seeds for task in row.trainings(seed)]
        tasks += of_row
        method_of |= {task.name: row.method.trainer for task in of_row}
    for row in rows if test else []:
        of_row = [task for seed in row.method.seeds for task in row.predictions(seed, detector)]
        tasks += of_row
        method_of |= {task.name: row.method.trainer for task in of_row}
    return Matrix(tuple(tasks), method_of, test)


@dataclass(frozen=True)
class _Row:
    """One method and all that its commands are made of."""

    sweep: Sweep
    places: Places
    number: int
    test: TestSet | None
    needs: Mapping[str, Needs]
    environment: Mapping[str, str]
    method: Method
    plans: str = ""
    configuration: str = ""

    def model(self, seed: int | None) -> tuple[str, str, str]:
        """Trainer, plans and configuration, as nnU-Net names a model by them."""
        return (
            self.method.named(seed),
            self.plans or self.sweep.plans,
            self.configuration or self.sweep.configuration,
        )

    def trainings(self, seed: int | None) -> Iterator[Task]:
        """One command a fold."""
        trainer, plans, configuration = self.model(seed)
        options = ["-tr", trainer, "-p", plans, "-device", self.sweep.device]
        options += ["--npz"] if self.sweep.probabilities and not self.method.case_level else []
        for fold in self.sweep.folds:
            command = (TRAIN, str(self.number), configuration, str(fold), *options)
            folder = self.places.model(trainer, plans, configuration) / f"fold_{fold}"
            yield self.task("train", f"{trainer}-{configuration}-f{fold}", command, folder)

    def predictions(self, seed: int | None, detector: "_Row | None") -> Iterator[Task]:
        """By the sliding window with all folds together, and by the cascade."""
        after = tuple(task.name for task in self.trainings(seed))
        if self.method.case_level:
            yield self.case_prediction(seed, after)
            return
        yield self.prediction(seed, "predict", PREDICT, [], after)
        if detector:
            found = tuple(task.name for task in detector.trainings(None))
            yield self.prediction(seed, "cascade", CASCADE, self.cascade_options(detector), (*after, *found))

    def prediction(self, seed: int | None, kind: Any, program: str, options: list[str], after: tuple[str, ...]) -> Task:
        """Of the held-out images."""
        assert self.test is not None
        trainer, plans, configuration = self.model(seed)
        folds = [str(fold) for fold in self.sweep.folds]
        folder = self.places.model(trainer, plans, configuration) / self.folder_name(kind, options)
        command = [program, "-i", str(self.test.images), "-o", str(folder), "-d", str(self.number)]
        command += ["-tr", trainer, "-p", plans, "-c", configuration, "-f", *folds, "-device", self.sweep.device]
        command += ["-npp", "1", "-nps", "1", *options]
        command += [] if self.sweep.mirroring else ["--disable_tta"]
        command += ["--save_probabilities"] if self.sweep.probabilities else []
        return self.task(kind, f"{trainer}-{configuration}", tuple(command), folder, after)

    def case_prediction(self, seed: int | None, after: tuple[str, ...]) -> Task:
        """Of the case-level targets of held-out images: all of them, whatever is known of their truth."""
        assert self.test is not None
        trainer, plans, configuration = self.model(seed)
        folds = [str(fold) for fold in self.sweep.folds]
        folder = self.places.model(trainer, plans, configuration) / self.folder_name("predict", [])
        command = [*PREDICT_CASES, "-i", str(self.test.images), "-o", str(folder), "-d", str(self.number)]
        command += ["-tr", trainer, "-p", plans, "-c", configuration, "-f", *folds, "-device", self.sweep.device]
        command += ["--targets", str(self.test.labels)] if self.test.labels else []
        command += [] if self.sweep.mirroring else ["--disable_tta"]
        return self.task("predict", f"{trainer}-{configuration}", tuple(command), folder, after)

    def folder_name(self, kind: str, options: list[str]) -> str:
        """Of predictions: with other folds or settings they are others."""
        assert self.test is not None
        name = "test" if kind == "predict" else f"cascade-{sha256(shlex.join(options).encode()).hexdigest()[:8]}"
        folds = "_".join(map(str, self.sweep.folds))
        return f"{name}_{self.test.tag}_folds_{folds}{'' if self.sweep.mirroring else '_disable_tta'}"

    def cascade_options(self, detector: "_Row") -> list[str]:
        """The detector's model and the settings."""
        assert self.sweep.cascade is not None
        trainer, plans, configuration = detector.model(None)
        folds = [str(fold) for fold in self.sweep.folds]
        options = ["-roi_tr", trainer, "-roi_p", plans, "-roi_c", configuration, "-roi_f", *folds]
        for key, value in self.sweep.cascade.settings.items():
            options += [f"--{key}", *(str(each) for each in (value if isinstance(value, list) else [value]))]
        return options

    def task(self, kind: Any, name: str, command: tuple[str, ...], folder: Path, after: tuple[str, ...] = ()) -> Task:
        """A command with what it needs."""
        goes_on = (*command, *GOES_ON.get(command[0], ()))
        needs = self.needs.get(self.method.trainer, Needs())
        return Task(f"{kind}-{name}", kind, command, goes_on, folder, after, needs, self.environment)


def _detector(make: Callable[..., _Row], sweep: Sweep, places: Places, test: TestSet | None) -> _Row:
    """The detector of the cascade, trained once for all rows."""
    assert sweep.cascade is not None
    if test is None:
        raise ValueError("The cascade predicts held-out images, and there are none; name a folder with `test`.")
    places.configuration(sweep.cascade.configuration)
    plans = sweep.cascade.plans or sweep.plans
    return make(detector_of(sweep), plans=plans, configuration=sweep.cascade.configuration)


def detector_of(sweep: Sweep) -> Method:
    """The detector as a method; its name may hold a seed.

    Raises:
        ValueError: the name is not that of a detector of ours.
    """
    assert sweep.cascade is not None
    network, words = parts(sweep.cascade.detector)
    spec = next((spec for spec in networks_like(network) if spec.detector), None)
    if spec is None:
        raise ValueError(f"{sweep.cascade.detector!r} is no detector; `nnunet_ext list` shows them (ROI...).")
    name = legal_name(spec, words)
    return Method(name, parse(name), tuple(words), (None,))
