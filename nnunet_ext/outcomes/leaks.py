"""Does a procedure see the test cases? What scores above chance on permuted targets does.

Selecting features, standardising or cutting on all cases before they are split is invisible in the folds' files, and
makes noise look like a finding (Ambroise and McLachlan 2002, 10.1073/pnas.102102699: gene selection outside the folds
gives an error near zero on random labels). So the whole procedure, from the table to the cross-validated score, is run
on permuted targets: where nothing can be learned, an honest one is at chance on average.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

Procedure = Callable[[np.ndarray], float]
"""From the targets (n,) of all cases to a cross-validated score, higher being better."""


@dataclass(frozen=True)
class LeakCheck:
    """Scores of a procedure on permuted targets.

    Attributes:
        mean: of the scores.
        chance: what a procedure gets that sees nothing.
        p: one-sided, of the t-test that the mean is at most chance.
        found: whether it leaks, at the level asked for.
    """

    mean: float
    chance: float
    p: float
    found: bool


def check(
    procedure: Procedure,
    truth: np.ndarray,
    patients: Sequence[str],
    *,
    chance: float,
    permutations: int = 20,
    seed: int = 0,
    level: float = 0.01,
) -> LeakCheck:
    """Runs a procedure on permuted targets.

    Args:
        procedure: all of it, selection and standardisation included.
        truth: (n,) targets.
        patients: (n,) cases of one patient keep one target if they have one.
        chance: expected score without information: 0.5 for AUC and C-index, 1 / L for balanced accuracy, 0 for kappa
            and R2 (below 0 for R2 in cross-validation, so 0 errs on the safe side).
        permutations: how often.
        seed: of the permutations.
        level: below which p means a leak.

    Raises:
        ValueError: fewer than two permutations.
    """
    if permutations < 2:
        raise ValueError(f"{permutations} permutations say nothing about their spread; take 2 or more, 20 as a rule.")
    generator = np.random.default_rng(seed)
    scores = np.array([procedure(permuted(truth, patients, generator)) for _ in range(permutations)])
    known = scores[~np.isnan(scores)]
    mean = float(known.mean()) if len(known) else np.nan
    p = _above(known, chance)
    return LeakCheck(mean, chance, p, p < level)


def _above(scores: np.ndarray, chance: float) -> float:
    """One-sided p-value of the mean."""
    if len(scores) < 2 or np.ptp(scores) == 0:  # no spread to compare with: the same score each time
        return 0.0 if len(scores) > 1 and scores[0] > chance else 1.0
    return float(stats.ttest_1samp(scores, chance, alternative="greater").pvalue)


def permuted(truth: np.ndarray, patients: Sequence[str], generator: np.random.Generator) -> np.ndarray:
    """Targets (n,) exchanged between patients; between cases where a patient's cases differ in theirs."""
    names, of_case = np.unique(np.asarray(patients, str), return_inverse=True)
    first = truth[[int(np.flatnonzero(of_case == i)[0]) for i in range(len(names))]]
    if not np.array_equal(first[of_case], truth):
        return generator.permutation(truth)
    return generator.permutation(first)[of_case]
