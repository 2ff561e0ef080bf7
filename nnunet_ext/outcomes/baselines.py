"""What is known without the images: constants of the training cases, and the covariates alone.

Every baseline is fitted inside the fold, on the cases that the networks were trained on; the covariates are
standardised there too (:mod:`.standardising`). Classes and ordinal levels: logistic regression with scikit-learn's
L2 penalty of C = 1 on the features; numbers: least squares; survival: a Weibull accelerated failure time model by
lifelines, where that is installed.

Shapes: m training cases, n test cases, L levels, d features.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np

from nnunet_ext.outcomes.cases import Predictions
from nnunet_ext.outcomes.columns import SURVIVAL, Column

MAJORITY, MEAN, MEDIAN = "majority level", "mean", "median"
PENALISER = 0.01
"""Of lifelines' fit, which does not converge on a handful of cases without one."""


@dataclass(frozen=True)
class Known:
    """Truth of some cases: (m,) numbers or indices of levels, and whether each is only a lower bound."""

    truth: np.ndarray
    censored: np.ndarray


class Guess(NamedTuple):
    """Predictions (n,) and probabilities (n, L) of a baseline."""

    prediction: np.ndarray
    probability: np.ndarray | None = None


def constants(column: Column, training: Known, test: Predictions) -> dict[str, Predictions]:
    """Name -> predictions of the baselines that look at nothing but the training cases' truth."""
    names: dict[str, Callable[[Column, Known, int], Guess]]
    names = {MAJORITY: majority} if column.is_discrete else {MEAN: _statistic(np.mean), MEDIAN: _statistic(np.median)}
    return {name: _as_predictions(guess(column, training, len(test)), test) for name, guess in names.items()}


def from_covariates(
    column: Column, training: Known, features: np.ndarray, test: Predictions, test_features: np.ndarray
) -> Predictions:
    """Predictions by the covariates alone.

    Args:
        column: to be predicted.
        training: the training cases' truth.
        features: (m, d) theirs.
        test: the test cases.
        test_features: (n, d) theirs, coded as the training cases'.

    Raises:
        ValueError: a survival column, and lifelines is not installed.
    """
    fit = logistic if column.is_discrete else survival if column.kind == SURVIVAL else least_squares
    return _as_predictions(fit(column, training, features, test_features), test)


def majority(column: Column, training: Known, n: int) -> Guess:
    """The most frequent level (of equal ones the first) with the levels' shares as probabilities."""
    counts = np.bincount(training.truth.astype(int), minlength=len(column.levels))
    return Guess(np.full(n, counts.argmax()), np.tile(counts / counts.sum(), (n, 1)))


def _statistic(of: Callable[[np.ndarray], float]) -> Callable[[Column, Known, int], Guess]:
    """A constant; of survival times that of the observed ones, or of all where each is censored."""

    def constant(_: Column, training: Known, n: int) -> Guess:
        seen = training.truth[~training.censored] if not training.censored.all() else training.truth
        return Guess(np.full(n, float(of(seen))))

    return constant


def logistic(column: Column, training: Known, features: np.ndarray, test_features: np.ndarray) -> Guess:
    """By multinomial logistic regression; the majority level where the training cases have one level only."""
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(training.truth)) < 2:
        return majority(column, training, len(test_features))
    model = LogisticRegression(max_iter=1000).fit(features, training.truth.astype(int))
    probability = np.zeros((len(test_features), len(column.levels)))
    probability[:, model.classes_] = model.predict_proba(test_features)
    return Guess(probability.argmax(1), probability)


def least_squares(_: Column, training: Known, features: np.ndarray, test_features: np.ndarray) -> Guess:
    """By linear regression; features that depend on each other get the smallest coefficients."""
    from sklearn.linear_model import LinearRegression

    return Guess(LinearRegression().fit(features, training.truth).predict(test_features))


def survival(column: Column, training: Known, features: np.ndarray, test_features: np.ndarray) -> Guess:
    """The median time of a Weibull model; the constant median where no training case had its event."""
    if find_spec("lifelines") is None:
        raise ValueError(
            f"lifelines is not installed, which the covariates of {column.name} need; pip install lifelines, or leave "
            f"them out by --covariates none."
        )
    import pandas as pd
    from lifelines import WeibullAFTFitter
    from lifelines.exceptions import ConvergenceError

    if training.censored.all():
        return _statistic(np.median)(column, training, len(test_features))
    names = [f"x{i}" for i in range(features.shape[1])]
    table = pd.DataFrame(features, columns=names)
    table["time"], table["event"] = np.maximum(training.truth, np.finfo(float).tiny), ~training.censored
    try:
        model = WeibullAFTFitter(penalizer=PENALISER).fit(table, "time", "event")
    except ConvergenceError as error:
        raise ValueError(
            f"The covariates of {column.name} cannot be fitted to the {len(table)} training cases of a fold; leave "
            f"some out by --covariates."
        ) from error
    found = model.predict_median(pd.DataFrame(test_features, columns=names))
    return Guess(np.asarray(found, float).reshape(-1))


def _as_predictions(guess: Guess, test: Predictions) -> Predictions:
    missing = np.full(len(test), np.nan)
    return replace(test, prediction=guess.prediction, probability=guess.probability, lower=missing, upper=missing)
