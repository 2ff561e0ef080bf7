"""May it be said that one method is better than another?

A claim needs both p-values below the level, corrected for the number of pairs (Holm 1979, by statsmodels):

* the permutation test over whole trainings (:mod:`.permutation`), exact if the two methods are the same;
* the t-test of the mean difference with the standard error for new seeds and new cases (:mod:`.variance`), which holds
  where two methods differ from case to case but are equal on average.

With one seed there is no verdict: nothing tells a difference between methods from one between two trainings.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special, stats
from statsmodels.stats.multitest import multipletests

from nnunet_ext.evaluation.permutation import p_values
from nnunet_ext.evaluation.scores import Scores
from nnunet_ext.evaluation.variance import mean_squares

LEVEL = 0.05
POWER = 0.8
Verdict = Literal["better", "worse", "no difference shown", "no verdict: one seed", "no verdict: too few cases"]


@dataclass(frozen=True)
class Comparison:
    """One pair of methods.

    Attributes:
        first, second: their names.
        difference: by how much the first is better, in the unit of the score, mean over seeds and cases.
        low, high: interval of 95 % for it, for new seeds and cases, not corrected for the number of pairs; None
            without a verdict.
        p: the larger of the two p-values, None without a verdict.
        p_holm: corrected for all pairs that were compared.
        effect: mean difference of a case, over its standard deviation (Cohen's d_z, seeds averaged).
        superiority: share of cases in which the first is better; ties count half.
        false_claim: see :func:`probability_of_false_claim`, for the claim that the one with the better mean is better.
        detectable: smallest difference that this design finds in ``POWER`` of all repetitions, without correction.
        verdict: on the first method.
    """

    first: str
    second: str
    difference: float
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    effect: float
    superiority: float
    false_claim: float
    detectable: float | None
    verdict: Verdict


def compare(scores: Scores, reference: str | None = None) -> list[Comparison]:
    """Every pair of methods, or every other method with the reference.

    Raises:
        ValueError: there is no such reference, or fewer than two methods.
    """
    pairs = _pairs(scores, reference)
    differences = np.stack([scores.better_by(*pair) for pair in pairs])
    folds = scores.cases_of_folds
    refusal = _refusal(scores)
    if refusal:
        nothing = [None] * len(pairs)
        columns: Sequence[Sequence[float | None]] = (nothing,) * 5
    else:
        columns = _inference(differences, folds)
    return [
        _comparison(pair, difference, refusal, *column)
        for pair, difference, *column in zip(pairs, differences, *columns, strict=True)
    ]


def _pairs(scores: Scores, reference: str | None) -> list[tuple[str, str]]:
    if len(scores.methods) < 2:
        raise ValueError(f"A comparison takes at least two methods, not {len(scores.methods)}.")
    if reference is None:
        return list(scores.pairs())
    if reference not in scores.methods:
        raise ValueError(f"The reference {reference} is not among the methods {', '.join(scores.methods)}.")
    return [(method, reference) for method in scores.methods if method != reference]


def _refusal(scores: Scores) -> Verdict | None:
    if scores.n_seeds < 2:
        return "no verdict: one seed"
    smallest = min(len(cases) for cases in scores.cases_of_folds)
    return "no verdict: too few cases" if smallest < 2 else None


def _inference(differences: np.ndarray, folds: Sequence[np.ndarray]) -> tuple[Sequence[float], ...]:
    """Columns low, high, p, p_holm, detectable for differences (N, S, C)."""
    squares = mean_squares(differences, folds)
    error, df = np.sqrt(squares.variance_of_mean()), squares.degrees_of_freedom()
    mean = differences.mean((1, 2))
    t = np.divide(mean, error, out=np.where(mean, np.inf, 0.0), where=error > 0)
    p = np.maximum(p_values(differences, folds), 2 * stats.t.sf(np.abs(t), df))
    half = stats.t.ppf(1 - LEVEL / 2, df) * error
    found = (stats.t.ppf(1 - LEVEL / 2, df) + stats.t.ppf(POWER, df)) * error
    holm = multipletests(p, alpha=LEVEL, method="holm")[1]
    return tuple(column.tolist() for column in (mean - half, mean + half, p, holm, found))


def _comparison(
    pair: tuple[str, str],
    difference: np.ndarray,
    refusal: Verdict | None,
    low: float | None,
    high: float | None,
    p: float | None,
    p_holm: float | None,
    detectable: float | None,
) -> Comparison:
    of_cases = difference.mean(0)
    mean, spread = float(of_cases.mean()), float(of_cases.std(ddof=1)) if of_cases.size > 1 else 0.0
    shown: Verdict = "no difference shown"
    if p_holm is not None and p_holm < LEVEL:
        shown = "better" if mean > 0 else "worse"
    return Comparison(
        *pair,
        difference=mean,
        low=low,
        high=high,
        p=p,
        p_holm=p_holm,
        effect=mean / spread if spread else float(np.sign(mean)) * float("inf") if mean else 0.0,
        superiority=float((of_cases > 0).mean() + (of_cases == 0).mean() / 2),
        false_claim=probability_of_false_claim(of_cases if mean >= 0 else -of_cases),
        detectable=detectable,
        verdict=refusal or shown,
    )


def probability_of_false_claim(differences: np.ndarray) -> float:
    """Probability that the method with the better mean is not the better one, of differences (C,) in its favour.

    The posterior of the mean under a flat prior, which is the one-sided paired t-test (Christodoulou et al. 2025,
    Claims Reloaded, arXiv:2505.04720). It knows the cases only, not that another training would score otherwise.
    """
    if differences.size < 2 or not differences.std():
        return 0.0 if differences.mean() > 0 else 0.5
    statistic = differences.mean() / (differences.std(ddof=1) / np.sqrt(differences.size))
    return float(special.stdtr(differences.size - 1, -statistic))


def false_claim_of_published(mean: float, sd_first: float, sd_second: float, correlation: float, cases: int) -> float:
    """The same from a published table: difference of the means, standard deviations over cases, their correlation.

    Raises:
        ValueError: fewer than two cases, or deviations and a correlation that leave no spread.
    """
    variance = sd_first**2 + sd_second**2 - 2 * sd_first * sd_second * correlation
    if cases < 2 or variance <= 0:
        raise ValueError(f"Expected at least two cases and a spread of the differences, not {cases} and {variance:g}.")
    return float(stats.t.sf(np.sqrt(cases / variance) * mean, cases - 1))
