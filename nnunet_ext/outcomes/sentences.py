"""What may be said of a result, in sentences."""

from collections.abc import Sequence
from math import isnan

from nnunet_ext.outcomes.bootstrapping import Interval
from nnunet_ext.outcomes.honest import FEWEST_PATIENTS, WIDEST, Difference, Drawn, primary_of, proves_nothing, span_of
from nnunet_ext.outcomes.metrics import Metric

RULE = (
    f"Few cases prove nothing: fewer than {FEWEST_PATIENTS} patients, or an interval of 95 % that is missing or wider "
    f"than {WIDEST:.0%} of what lies between a useless and a perfect value (1 for shares, AUC, C-index and kappa; for "
    f"errors what the best baseline errs)."
)
BETTER_THAN_ALL = "Better than every baseline."
SHOWN = 5
"""Cases that a sentence names."""
GAIN = (
    "A gain is the mean over the folds of the paired difference from a baseline; its interval holds for all methods "
    "and columns together (Bonferroni)."
)


def said(drawn: Drawn, methods: Sequence[str], baselines: Sequence[str], level: float) -> list[list[str]]:
    """Of each method in the primary metric of a column: its value, what the cases prove, and against every baseline.

    Args:
        drawn: the draws.
        methods: names.
        baselines: names.
        level: of the gains' intervals, see :func:`.honest.level_for`.
    """
    metric = primary_of(drawn.column, drawn, methods)
    span = span_of(drawn, metric, baselines)
    return [_of_method(drawn, method, baselines, metric, span, level) for method in methods]


def _of_method(
    drawn: Drawn, method: str, baselines: Sequence[str], metric: Metric, span: float, level: float
) -> list[str]:
    found = drawn.interval(method, metric)
    cases, patients = sum(len(fold.cases) for fold in drawn.folds), sum(drawn.patients)
    open_ = proves_nothing(found, patients, span)
    value = f"{metric.name} {in_words(found)}{_unit(drawn, metric)}"
    head = f"{drawn.column.name}, {method}: {value}, {_counts(drawn, cases, patients)}."
    gains = [drawn.difference(method, baseline, metric, level) for baseline in baselines]
    nothing = [f"{cases} cases prove nothing: {_why(found, patients, span)}."] if open_ else []
    every = [BETTER_THAN_ALL] if gains and not open_ and all(gain.better for gain in gains) else []
    return [head, *nothing, *(_against(gain, cases, open_) for gain in gains), *every]


def _against(gain: Difference, cases: int, open_: bool) -> str:
    words = f"gain {in_words(gain.gain, brackets=False)}"
    if not gain.better:
        return f"Not better than {gain.baseline} ({words})."
    where = f" on these {cases} cases only" if open_ else ""
    return f"Better than {gain.baseline}{where} ({words})."


def _why(found: Interval, patients: int, span: float) -> str:
    if isnan(found.low):
        return found.note or "there is no interval"
    if patients < FEWEST_PATIENTS:
        return f"they are of {patients} patients, fewer than {FEWEST_PATIENTS}"
    return f"the interval is {found.high - found.low:.3g} wide, more than {WIDEST:.0%} of {span:.3g}"


def listed(cases: Sequence[str]) -> str:
    """The number of some cases and the names of the first."""
    more = f" and {len(cases) - SHOWN} more" if len(cases) > SHOWN else ""
    return f"{len(cases)} case{'s' * (len(cases) > 1)} ({', '.join(cases[:SHOWN])}{more})"


def in_words(found: Interval, brackets: bool = True) -> str:
    """Value and interval."""
    ends = "no interval" if isnan(found.low) else f"{found.low:.3g} to {found.high:.3g}"
    value = "undefined" if isnan(found.value) else format(found.value, ".3g")
    return f"{value} ({ends})" if brackets else f"{value}, {ends}"


def _unit(drawn: Drawn, metric: Metric) -> str:
    return f" {drawn.column.unit}" if metric.name == "mae" and drawn.column.unit else ""


def _counts(drawn: Drawn, cases: int, patients: int) -> str:
    folds = len(drawn.folds)
    where = "in the external test" if drawn.folds[0].name == "test" else f"in {folds} fold{'s' * (folds > 1)}"
    return f"{cases} cases of {patients} patients {where}"
