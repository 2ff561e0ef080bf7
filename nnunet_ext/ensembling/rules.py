"""How weights are chosen from the Dice of validation cases.

``average``: all models alike, which nothing has to be found for and which often wins. ``single``: the one model with
the best mean over all regions. ``inverse_error``: a model's weight is 1 / (1 - its mean Dice). ``search``: the best
weights of a lattice on the simplex.

The lattice is tried as a whole because the objective, the mean Dice of label maps, is a step function of the weights:
its gradient is zero wherever it exists, so that scipy.optimize's descents end where they begin, and its global searches
(brute, direct, differential_evolution) take boxes, not simplices. Finer steps than the lattice's would be chosen by
single voxels of the validation cases.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

from nnunet_ext.ensembling.outputs import Outputs
from nnunet_ext.ensembling.scoring import Decisive, Weights

FINEST = 20
"""Parts into which the lattice divides the sum of the weights at most: steps of 0.05."""
MOST = 2000
"""Points of the lattice at most; with many models its steps are longer."""
LEAST_ERROR = 1e-6
"""A model without error has a finite weight."""


def parts_of(models: int) -> int:
    """Parts of the finest lattice with no more than ``MOST`` points."""
    return next((n for n in range(FINEST, 1, -1) if comb(n + models - 1, models - 1) <= MOST), 1)


def candidates(models: int) -> Weights:
    """(K, M), equal weights first, then the lattice's points; each row sums to one."""
    parts = parts_of(models)
    # a point is a row of `parts` stones and models - 1 bars between them
    bars = np.array(list(combinations(range(parts + models - 1), models - 1)), int)
    edges = np.pad(bars, ((0, 0), (1, 1)), constant_values=((0, 0), (-1, parts + models - 1)))
    points = (np.diff(edges) - 1) / parts
    return np.concatenate([np.full((1, models), 1 / models), points])


def corners(points: Weights) -> NDArray[np.intp]:
    """(M,), the rows of ``candidates`` that are one model alone, in the models' order."""
    return np.array([np.flatnonzero(points[:, model] == 1)[0] for model in range(points.shape[1])])


@dataclass(frozen=True)
class Scores:
    """Dice of validation cases for all candidates.

    Attributes:
        points: (K, M).
        dice: what has weights of its own -> (cases, K, T'), of the regions by which they are chosen.
    """

    points: Weights
    dice: Mapping[str, NDArray[np.float64]]

    def weights(self, rule: str, cases: Sequence[int] | NDArray[np.intp]) -> dict[str, Weights]:
        """What has weights of its own -> (M,), chosen by a rule from the given cases alone."""
        means = {group: dice[cases].mean(axis=(0, 2)) for group, dice in self.dice.items()}
        alone = {group: mean[corners(self.points)] for group, mean in means.items()}
        if rule == "single":
            best = int(np.mean(list(alone.values()), axis=0).argmax())
            return dict.fromkeys(means, np.eye(self.points.shape[1])[best])
        if rule == "inverse_error":
            return {group: _inverse(1 - mean) for group, mean in alone.items()}
        if rule == "search":
            return {group: _best(self.points, mean) for group, mean in means.items()}
        return dict.fromkeys(means, self.points[0])


def _inverse(errors: NDArray[np.float64]) -> Weights:
    inverse = 1 / np.maximum(errors, LEAST_ERROR)
    weights: Weights = inverse / inverse.sum()
    return weights


def _best(points: Weights, means: NDArray[np.float64]) -> Weights:
    """Of equally good points the one that is closest to equal weights, the first of several."""
    spread = np.where(means == means.max(), (points**2).sum(axis=1), np.inf)
    found: Weights = points[int(spread.argmin())]
    return found


def score(outputs: Outputs, case: Decisive, points: Weights) -> dict[str, NDArray[np.float64]]:
    """What has weights of its own -> (K, T') of one case."""
    return {group: np.stack([case.own_dice(outputs, group, w) for w in points]) for group in outputs.channels}


def by_channel(outputs: Outputs, weights: Mapping[str, Weights]) -> Weights:
    """(M, C) from the weights of what has weights of its own."""
    found = np.zeros((len(next(iter(weights.values()))), outputs.heads))
    for group, channels in outputs.channels.items():
        found[:, list(channels)] = weights[group][:, None]
    return found
