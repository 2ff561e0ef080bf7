"""May it be said that one method is better than another?

A claim needs both p-values below the level, corrected for all that is compared (Holm 1979, by statsmodels):

* the permutation test over whole trainings (:mod:`.permutation`), exact if the two methods are the same;
* the t-test of the mean difference with the standard error for new seeds and new cases (:mod:`.variance`), which holds
  where two methods differ from case to case but are equal on average.

With one seed there is no verdict: nothing tells a difference between methods from one between two trainings.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import numpy as np
from scipy import special, stats
from statsmodels.stats.multitest import multipletests

from nnunet_ext.evaluation.permutation import p_values
from nnunet_ext.evaluation.scores import Scores
from nnunet_ext.evaluation.variance import mean_squares

LEVEL = 0.05
POWER = 0.8
Key = TypeVar("Key", bound=Hashable)
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
        p_holm: corrected for all pairs, regions and metrics that were compared.
        effect: mean difference of a case, over its standard deviation (Cohen's d_z, seeds averaged); 0 without spread.
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
    """Every pair of methods, or every other method with the reference, in one region and metric.

    Raises:
        ValueError: there is no such reference, or fewer than two methods.
    """
    return [comparison for _, comparison in compare_all({"": scores}, reference)]


def compare_all(parts: Mapping[Key, Scores], reference: str | None = None) -> list[tuple[Key, Comparison]]:
    """The same in several regions and metrics, corrected for all of them together: any false claim is one.

    Raises:
        ValueError: there is no such reference, or fewer than two methods.
    """
    found = [(key, comparison) for key, scores in parts.items() for comparison in _uncorrected(scores, reference)]
    known = [i for i, (_, comparison) in enumerate(found) if comparison.p is not None]
    if known:
        holm = multipletests([found[i][1].p for i in known], alpha=LEVEL, method="holm")[1]
        for i, p in zip(known, holm.tolist(), strict=True):
            found[i] = found[i][0], _judged(found[i][1], p)
    return found


def _judged(comparison: Comparison, p_holm: float) -> Comparison:
    shown: Verdict = "no difference shown"
    if p_holm < LEVEL:
        shown = "better" if comparison.difference > 0 else "worse"
    return replace(comparison, p_holm=p_holm, verdict=shown)


def _uncorrected(scores: Scores, reference: str | None) -> list[Comparison]:
    pairs = _pairs(scores, reference)
    differences = np.stack([scores.better_by(*pair) for pair in pairs])
    refusal = _refusal(scores)
    nothing: Sequence[Sequence[float | None]] = ([None] * len(pairs),) * 4
    columns = nothing if refusal else _inference(differences, scores.cases_of_folds)
    return [
        _comparison(pair, difference, refusal or "no difference shown", *column)
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
    """Columns low, high, p, detectable for differences (N, S, C)."""
    squares = mean_squares(differences, folds)
    error, df = np.sqrt(squares.variance_of_mean()), squares.degrees_of_freedom()
    mean = differences.mean((1, 2))
    t = np.divide(mean, error, out=np.where(mean, np.inf, 0.0), where=error > 0)
    p = np.maximum(p_values(differences, folds), 2 * stats.t.sf(np.abs(t), df))
    half = stats.t.ppf(1 - LEVEL / 2, df) * error
    found = (stats.t.ppf(1 - LEVEL / 2, df) + stats.t.ppf(POWER, df)) * error
    return tuple(column.tolist() for column in (mean - half, mean + half, p, found))


def _comparison(
    pair: tuple[str, str],
    difference: np.ndarray,
    verdict: Verdict,
    low: float | None,
    high: float | None,
    p: float | None,
    detectable: float | None,
) -> Comparison:
    of_cases = difference.mean(0)
    mean, spread = float(of_cases.mean()), float(of_cases.std(ddof=1)) if of_cases.size > 1 else 0.0
    return Comparison(
        *pair,
        difference=mean,
        low=low,
        high=high,
        p=p,
        p_holm=None,
        effect=mean / spread if spread else 0.0,
        superiority=float((of_cases > 0).mean() + (of_cases == 0).mean() / 2),
        false_claim=probability_of_false_claim(of_cases if mean >= 0 else -of_cases),
        detectable=detectable,
        verdict=verdict,
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
