"""Experiments in which the truth is known: methods that are the same, or differ by a planted amount.

Scores are Dice-like: the logistic function of a case's difficulty, what one training does to its whole fold and what it
does to one case, and now and then a missed tumour. They are skewed and bounded as real ones are.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from nnunet_ext.evaluation.scores import Scores

MISSED = 0.02  # share of tumours that a training misses


@dataclass(frozen=True)
class Scenario:
    """One kind of experiment; the spreads are standard deviations on the logistic scale.

    Attributes:
        name: for tables.
        run: of a training's effect on all cases of its fold.
        case: of the cases' difficulty, the same for all methods.
        rest: of a training's effect on single cases.
        interplay: of a method's effect on single cases, the same for all its trainings; the methods then differ.
        methods, seeds, folds, cases: how many; cases in each fold.
        better: what is added to the first method.
    """

    name: str
    run: float = 0.1
    case: float = 1.0
    rest: float = 0.3
    interplay: float = 0.0
    methods: int = 16
    seeds: int = 3
    folds: int = 5
    cases: int = 25
    better: float = 0.0


def draw(scenario: Scenario, generator: np.random.Generator) -> Scores:
    """One experiment."""
    n_cases = scenario.folds * scenario.cases
    folds = np.repeat(np.arange(scenario.folds), scenario.cases)
    shape = scenario.methods, scenario.seeds, n_cases
    run = generator.normal(0, scenario.run, (*shape[:2], scenario.folds))[..., folds]
    latent = 2.2 + generator.normal(0, scenario.case, n_cases) + run + generator.normal(0, scenario.rest, shape)
    latent = latent + generator.normal(0, scenario.interplay, (scenario.methods, 1, n_cases))
    latent[0] += scenario.better
    values = np.where(generator.random(shape) < MISSED, 0, expit(latent))
    return Scores(values, folds, tuple(f"method {i}" for i in range(scenario.methods)))
