"""From the files of several models to an ensemble: weights, what they are worth, and the written test cases."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from nnunet_ext.ensembling import RULES, WRITTEN, judging
from nnunet_ext.ensembling.cases import Job, apply, prepare
from nnunet_ext.ensembling.members import DATASET, PLANS, Member, check, folds_of
from nnunet_ext.ensembling.outputs import Outputs
from nnunet_ext.ensembling.rules import Scores, by_channel, candidates
from nnunet_ext.ensembling.scoring import Decisive, Weights
from nnunet_ext.evaluation.processes import each

Dice = dict[str, NDArray[np.float64]]
"""Rule, or what is written -> (cases, T)."""
Work = TypeVar("Work")
Made = TypeVar("Made")


@dataclass
class Ensemble:
    """An ensemble while it is made.

    Attributes:
        members: the models, sorted by name.
        validation: case -> reference; every validation case has one.
        test: case -> reference of test cases; empty, or for all of them.
        out: the folder that is written.
        jobs: processes.
    """

    members: Sequence[Member]
    validation: Mapping[str, Path]
    test: Mapping[str, Path]
    out: Path
    jobs: int = 1
    outputs: Outputs = field(init=False)
    dataset: dict[str, Any] = field(init=False)
    plans: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.dataset, self.plans = (self.members[0].json(name) for name in (DATASET, PLANS))
        self.outputs = Outputs.of(self.dataset, self.plans)
        check(self.members, self.outputs.heads)
        self.cases = sorted(self.members[0].validation)
        self.test_cases = sorted(self.members[0].test)
        _all_there(self.cases, self.validation, "validation")
        _all_there(self.test_cases if self.test else (), self.test, "test")
        self.folds = folds_of(self.members)
        self.parts = judging.parts_of(self.cases, self.folds)

    def find(self, rule: str | None) -> "Found":
        """Weights by all rules, judged by cross-validation.

        Args:
            rule: what is written; None for what wins in the cross-validation, region by region.

        Raises:
            ValueError: a file cannot be read.
        """
        with TemporaryDirectory(prefix=".validation-", dir=self.out) as scratch:
            folder = Path(scratch)
            work = [(self._job(case), folder) for case in self.cases]
            made = dict(self._each(prepare, work, "validation"))
            dice = {group: np.stack([made[case][group] for case in self.cases]) for group in self.outputs.channels}
            scores = Scores(candidates(len(self.members)), dice)
            judged = self._judged(scores, {name: dict.fromkeys(dice, name) for name in RULES}, folder)
            chosen = {group: rule or self._winner(judged, group) for group in dice}
            judged |= self._judged(scores, {WRITTEN: chosen}, folder)
        everywhere = np.arange(len(self.cases))
        weights = {name: scores.weights(name, everywhere) for name in RULES}
        weights[WRITTEN] = {group: weights[name][group] for group, name in chosen.items()}
        return Found(weights, chosen, judged)

    def _judged(self, scores: Scores, named: Mapping[str, Mapping[str, str]], folder: Path) -> Dice:
        """Dice of every case with weights that were chosen without its fold.

        Args:
            scores: of all cases and candidates.
            named: name -> what has weights of its own -> the rule by which they are chosen.
            folder: with what is left of the cases.
        """
        found = {name: np.zeros((len(self.cases), len(self.outputs.targets))) for name in named}
        for part in self.parts:
            others = np.setdiff1d(np.arange(len(self.cases)), part)
            by_rule = {rule: scores.weights(rule, others) for rule in RULES}
            weights = {name: {g: by_rule[rule][g] for g, rule in rules.items()} for name, rules in named.items()}
            for index in part:
                case = Decisive.load(folder / f"{self.cases[index]}.npz")
                for name, own in weights.items():
                    found[name][index] = case.dice(self.outputs, by_channel(self.outputs, own))
        return found

    def _winner(self, judged: Dice, group: str) -> str:
        regions = list(self.outputs.targets)
        return judging.winner(judged, [regions.index(region) for region in self.outputs.scored[group]])

    def write(self, weights: Mapping[str, Mapping[str, Weights]], *, keep: bool) -> Dice:
        """Writes the test cases; their Dice where there are references.

        Args:
            weights: rule, and what is written -> what has weights of its own -> (M,).
            keep: whether probabilities are written as well.
        """
        of_channels = {name: by_channel(self.outputs, own) for name, own in weights.items()}
        work = [(self._job(case), self.out, of_channels, keep) for case in self.test_cases]
        made = dict(self._each(apply, work, "test"))
        return {name: np.stack([made[case][name] for case in self.test_cases]) for name in weights if self.test}

    def table(self, judged: Dice, tested: Dice) -> pd.DataFrame:
        """The columns of ``judging.COLUMNS``; the validation is cross-validated."""
        regions = list(self.outputs.targets)
        rows = list(judging.rows("validation", judged, regions, judging.strata_of(self.cases, self.folds)))
        if tested:
            rows += judging.rows("test", tested, regions, [np.arange(len(self.test_cases))])
        return pd.DataFrame(rows)

    def cases_table(self, judged: Dice, tested: Dice) -> pd.DataFrame:
        """One row a set, case, region and rule: the Dice."""
        sets = [("validation", self.cases, judged), ("test", self.test_cases, tested)]
        rows = [
            (name, case, region, rule, dice[index, column])
            for name, cases, found in sets
            for rule, dice in found.items()
            for index, case in enumerate(cases)
            for column, region in enumerate(self.outputs.targets)
        ]
        return pd.DataFrame(rows, columns=["set", "case", "region", "rule", "Dice"])

    def _job(self, case: str) -> Job:
        files = tuple(member.test.get(case) or (member.validation[case],) for member in self.members)
        reference = self.validation.get(case) if case in self.members[0].validation else self.test.get(case)
        return Job(case, files, reference, self.dataset, self.plans)

    def _each(self, function: Callable[[Work], Made], work: Sequence[Work], name: str) -> Iterator[Made]:
        return iter(tqdm(each(function, work, self.jobs), name, len(work), unit="case", disable=None))


@dataclass(frozen=True)
class Found:
    """Weights and what they are worth.

    Attributes:
        weights: rule, and what is written -> what has weights of its own -> (M,), from all validation cases.
        chosen: what has weights of its own -> the rule that is written.
        judged: Dice of the validation cases, each with weights that were chosen without its fold.
    """

    weights: dict[str, dict[str, Weights]]
    chosen: dict[str, str]
    judged: Dice


def _all_there(cases: Sequence[str], references: Mapping[str, Path], what: str) -> None:
    lacking = [case for case in cases if case not in references]
    if lacking:
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        raise ValueError(f"There is no reference of the {what} case {lacking[0]}{more}; no case is left out.")
