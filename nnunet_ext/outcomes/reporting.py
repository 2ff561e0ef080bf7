"""Tables and sentences of case-level results, for the command and its page."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from nnunet_ext.evaluation.runs import Run
from nnunet_ext.outcomes import ensembles, external, gathering, pairs
from nnunet_ext.outcomes.bootstrapping import Interval
from nnunet_ext.outcomes.columns import Column
from nnunet_ext.outcomes.ensembles import Choice, Maker, NobodyError, Weights
from nnunet_ext.outcomes.honest import Drawn, Fold, differences, fold_table, level_for, primary_of, summary_table
from nnunet_ext.outcomes.metrics import PRIMARY, metrics_of
from nnunet_ext.outcomes.page import Part
from nnunet_ext.outcomes.pairs import Pairs
from nnunet_ext.outcomes.results import TEST
from nnunet_ext.outcomes.selection import Chosen
from nnunet_ext.outcomes.sentences import in_words, said

CROSS_VALIDATION = "cross-validation"
PAIRS, CHOICES = "Pairs, by their values on other folds than those of their weights", "Chosen on the other folds"
Found = tuple[Column, str, Weights]
"""Of a column, a further method and a fold."""


@dataclass(frozen=True)
class Judged:
    """One column in cross-validation or in the external test.

    Attributes:
        tested: ``cross-validation`` or ``test``.
        drawn: folds with methods and baselines, and the draws.
        ranked: methods that the column's rule allows, the best in cross-validation first.
        refused: the other methods with the reason.
        ensembles: names.
        baselines: names.
        level: of the intervals of gains.
        left_out: cases without truth.
        notes: method -> further sentences.
        pairs: the pairs of two groups, see :func:`.pairs.table`; empty where none were asked for.
        choices: see :func:`choices_table`; empty likewise.
    """

    tested: str
    drawn: Drawn
    ranked: tuple[str, ...]
    refused: Mapping[str, str]
    ensembles: tuple[str, ...]
    baselines: tuple[str, ...]
    level: float
    left_out: tuple[str, ...]
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    pairs: pd.DataFrame = field(default_factory=pd.DataFrame)
    choices: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def methods(self) -> tuple[str, ...]:
        """All that is judged."""
        return (*self.ranked, *self.refused, *self.ensembles)

    @property
    def column(self) -> Column:
        """What is predicted."""
        return self.drawn.column

    @property
    def file_name(self) -> str:
        """For its picture; other signs than letters, digits, dots and dashes become underscores."""
        return re.sub(r"[^\w.-]", "_", f"{self.column.name}_{self.tested}")

    @property
    def verdicts(self) -> list[list[str]]:
        """For each method its sentences."""
        found = said(self.drawn, self.methods, self.baselines, self.level)
        if self.left_out:
            found[0] = [*found[0], f"Cases without a known {self.column.name}, left out: {len(self.left_out)}."]
        return [[*lines, *self.notes.get(method, ())] for method, lines in zip(self.methods, found, strict=True)]


def judge(
    column: Column,
    sources: Sequence[gathering.Source],
    tests: Sequence[gathering.Source],
    around: gathering.Surroundings,
    makers: Sequence[Maker],
    columns: int,
) -> tuple[list[Judged], list[Found]]:
    """A column in cross-validation and, where ``tests`` know it, in the external test; and ensembles' weights.

    Args:
        column: what is predicted.
        sources: of the trainings.
        tests: of the external test, see :func:`.external.admitted`.
        around: what is known beside the predictions.
        makers: of ensembles and choices that are wanted.
        columns: judged together.

    Raises:
        ValueError: see the modules that it calls.
    """
    folds = gathering.folds_of(column, sources)
    methods = list(folds[0].methods)
    order = ensembles.ranking(column, folds, methods)
    known_around, missing = gathering.without_missing(column, folds, around)
    tested, names = gathering.with_baselines(column, folds, known_around)
    tested, weights, lacking = _with_all(column, tested, methods, makers)
    level = level_for(columns * (len(methods) + len(makers)))
    first, known = (*order.names, *order.refused)[0], (order.names, order.refused)
    further = tuple(dict.fromkeys(name for _, name, _ in weights))
    drawn, left_out = Drawn(column, tested), gathering.without_truth(column, sources)
    choices = choices_table(drawn, order, [found for _, name, found in weights if name == Choice().name])
    notes = {method: tuple(told) for method, told in gathering.chosen_where_judged(sources).items()}
    notes[first] = (*notes.get(first, ()), *missing, *lacking, *_untested(column, tests))
    notes[Choice().name] = _told(drawn, order, choices)
    combined = [pairs.table(each, column, folds) for each in makers if each.name in further and isinstance(each, Pairs)]
    made = [
        Judged(
            CROSS_VALIDATION, drawn, *known, further, tuple(names), level, left_out,
            notes=notes, pairs=_joined(combined), choices=choices,
        )
    ]  # fmt: skip
    if known_tests := [test for test in tests if gathering.has_truth(column, test)]:
        of_test = _external(column, folds, known_tests, around, [m for m in makers if m.name in further])
        weights += of_test.weights
        left_out = gathering.without_truth(column, known_tests)
        drawn, notes = Drawn(column, [of_test.fold]), {first: of_test.notes}
        made.append(Judged(TEST, drawn, *known, further, of_test.baselines, level, left_out, notes))
    return made, weights


def _with_all(
    column: Column, folds: list[Fold], methods: Sequence[str], makers: Sequence[Maker]
) -> tuple[list[Fold], list[Found], list[str]]:
    """The folds with what the makers make of their methods, how, and why others made nothing."""
    found: list[Found] = []
    lacking = []
    for maker in makers:
        try:
            folds, weights = ensembles.out_of_fold(column, folds, methods, maker)
        except NobodyError as error:  # told; the other columns and makers are judged
            lacking.append(f"There is no {maker.name!r}: {error}")
            continue
        found += [(column, maker.name, each) for each in weights]
    return folds, found, lacking


def _untested(column: Column, tests: Sequence[gathering.Source]) -> list[str]:
    if not tests or any(gathering.has_truth(column, test) for test in tests):
        return []
    return [f"No case of the external test has a known {column.name}."]


class _Tested(NamedTuple):
    """The external test as a fold with all methods, its baselines' names, what was made how, and what is to be said."""

    fold: Fold
    baselines: tuple[str, ...]
    weights: list[Found]
    notes: tuple[str, ...]


def _external(
    column: Column,
    folds: Sequence[Fold],
    tests: Sequence[gathering.Source],
    around: gathering.Surroundings,
    makers: Sequence[Maker],
) -> _Tested:
    """Everything in it was fitted on the validation folds, or on the networks' training cases."""
    (fold,) = gathering.folds_of(column, tests)
    seen_by_them = external.around_test(around, folds, tests)
    known_around, missing = gathering.without_missing(column, [fold], seen_by_them, folds)
    ((fold,), names) = gathering.with_baselines(column, [fold], known_around, folds)
    weights = []
    for maker in makers:
        found = maker.fitted(column, folds, list(folds[0].methods), TEST)
        fold = ensembles.applied(column, fold, found, maker.name)
        weights.append((column, maker.name, found))
    return _Tested(fold, tuple(names), weights, (*external.notes(tests, around), *missing))


def choices_table(drawn: Drawn, order: Chosen, weights: Sequence[Weights]) -> pd.DataFrame:
    """What the other folds chose for each fold, in the primary metric, beside the best of all folds.

    One row a fold: column, fold, chosen, metric, value, best, value_of_best; empty without choices.
    """
    if not weights or not order.names:
        return pd.DataFrame()
    metric = primary_of(drawn.column, drawn, order.names)
    chosen, best = (drawn.values(name, metric)[0].mean(1) for name in (Choice().name, order.names[0]))
    return pd.DataFrame(
        {
            "column": drawn.column.name,
            "fold": [found.fold for found in weights],
            "chosen": [next(iter(found.weights)) for found in weights],
            "metric": metric.name,
            "value": chosen,
            "best": order.names[0],
            "value_of_best": best,
        }
    )


def _told(drawn: Drawn, order: Chosen, choices: pd.DataFrame) -> tuple[str, ...]:
    """What the choice was, and how much the best of all folds owes to it."""
    if choices.empty:
        return ()
    by_method = choices.groupby("chosen", sort=False)["fold"].apply(lambda folds: ", ".join(map(str, folds)))
    metric = primary_of(drawn.column, drawn, order.names)
    values = [drawn.interval(name, metric).value for name in (Choice().name, order.names[0])]
    return (
        f"Chosen: {'; '.join(f'{method} for fold {folds}' for method, folds in by_method.items())}.",
        f"The best of the {len(order.names) + len(order.refused)} by the folds on which it is told, {order.names[0]}, "
        f"has {metric.name} {values[1]:.3g}; chosen on the other folds it is {values[0]:.3g}, which is what a choice "
        "among them is worth.",
    )


def tables(judged: Sequence[Judged]) -> dict[str, pd.DataFrame]:
    """The CSV files by name."""
    both = [(part, {"tested": part.tested}) for part in judged]
    summary = [summary_table(part.drawn).assign(**t) for part, t in both]
    folds = [fold_table(part.column, part.drawn.folds).assign(**t) for part, t in both]
    return {
        "outcomes_summary.csv": pd.concat(summary, ignore_index=True),
        "outcomes_folds.csv": pd.concat(folds, ignore_index=True),
        "outcomes_gains.csv": pd.concat([gains_table(part).assign(**t) for part, t in both], ignore_index=True),
        "outcomes_cases.csv": pd.concat([cases_table(part).assign(**t) for part, t in both], ignore_index=True),
        "outcomes_ranking.csv": pd.DataFrame([row for part in judged for row in _ranks(part)]),
    }


def further_tables(judged: Sequence[Judged]) -> dict[str, pd.DataFrame]:
    """Of pairs and choices, by name; empty where none were asked for."""
    return {
        "outcomes_combinations.csv": _joined([part.pairs for part in judged]),
        "outcomes_nested.csv": _joined([part.choices for part in judged]),
    }


def _joined(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Those that are not empty, below each other."""
    full = [part for part in parts if len(part)]
    return pd.concat(full, ignore_index=True) if full else pd.DataFrame()


def gains_table(part: Judged) -> pd.DataFrame:
    """One row for each method, baseline and metric."""
    found = differences(part.drawn, part.methods, part.baselines, part.level)
    return pd.DataFrame(
        [
            {
                "column": part.column.name,
                "method": d.method,
                "baseline": d.baseline,
                "metric": d.metric,
                "gain": d.gain.value,
                "low": d.gain.low,
                "high": d.gain.high,
                "level": d.level,
                "better": d.better,
                "folds": d.gain.folds,
                "note": d.gain.note,
            }
            for d in found
        ]
    )


def cases_table(part: Judged) -> pd.DataFrame:
    """One row for each case, method (baselines included) and seed; levels by name."""
    rows = []
    for fold in part.drawn.folds:
        for method, seeds in fold.methods.items():
            for place, found in enumerate(seeds):
                words = {"fold": fold.name, "column": part.column.name, "method": method, "seed": place}
                truth, said_ = (_as_told(part.column, v) for v in (found.truth, found.prediction))
                rows += [
                    {**words, "case": c, "patient": p, "truth": t, "prediction": s, "censored": bool(x)}
                    for c, p, t, s, x in zip(fold.cases, fold.patients, truth, said_, found.censored, strict=True)
                ]
    return pd.DataFrame(rows)


def _as_told(column: Column, values: np.ndarray) -> list[str] | list[float]:
    return [column.levels[int(v)] for v in values] if column.is_discrete else values.astype(float).tolist()


def _ranks(part: Judged) -> Iterator[dict[str, object]]:
    if part.tested != CROSS_VALIDATION:  # nothing is chosen on the external test
        return
    for place, method in enumerate(part.ranked, 1):
        yield {"column": part.column.name, "method": method, "rank": str(place), "note": ""}
    for method, reason in part.refused.items():
        yield {"column": part.column.name, "method": method, "rank": "", "note": reason}


def weights_table(weights: Sequence[Found]) -> pd.DataFrame:
    """One row for each ensemble's fold and method."""
    return pd.DataFrame(
        [
            {"column": column.name, "ensemble": name, "fold": found.fold, "method": method, "weight": weight}
            for column, name, found in weights
            for method, weight in found.weights.items()
        ]
    )


def runs_table(runs: Sequence[Run]) -> pd.DataFrame:
    """Where the numbers come from."""
    names = ("method", "trainer", "plans", "configuration", "seed", "fold")
    rows = [{name: getattr(run, name) for name in names} for run in runs]
    return pd.DataFrame(rows).astype({"seed": "Int64"}).astype(str).replace("<NA>", "")


def facts(judged: Sequence[Judged]) -> dict[str, str]:
    """The head of the page."""
    first = judged[0]
    cases, patients = sum(len(fold.cases) for fold in first.drawn.folds), sum(first.drawn.patients)
    methods = sum(1 for name in first.methods)
    counts = {"methods": methods, "folds": len(first.drawn.folds), "cases": cases, "patients": patients}
    return {name: str(count) for name, count in counts.items()}


def page_part(part: Judged, picture: Path) -> Part:
    """What the page shows of it."""
    title = f"{part.column.name} ({part.column.kind}), {'external test' if part.tested == TEST else part.tested}"
    summary = summary_table(part.drawn)
    cells = summary.assign(cell=_cells(summary, "value"))
    metrics = [metric.name for metric in metrics_of(part.column)]
    shown = cells.pivot(index="method", columns="metric", values="cell")
    shown = shown.loc[[*part.methods, *part.baselines], metrics].reset_index()
    gains = gains_table(part)
    gains = gains[gains["metric"].isin({PRIMARY[part.column.kind], metrics[0]})]
    better = np.where(gains["better"], "yes", "no")
    of_gains = gains[["method", "baseline", "metric"]].assign(gain=_cells(gains, "gain"), better=better)
    folds = fold_table(part.column, part.drawn.folds)
    wide = folds.pivot(index=["method", "fold", "seed", "cases"], columns="metric", values="value")[metrics].round(4)
    further = {PAIRS: part.pairs, CHOICES: part.choices}
    told = tuple((heading, _short(table)) for heading, table in further.items() if len(table))
    return Part(title, part.verdicts, shown, part.baselines, of_gains, wide.reset_index(), picture, told)


def _short(table: pd.DataFrame) -> pd.DataFrame:
    """Ready to be read: without the column's name, numbers of four decimals, nothing where nothing is known."""
    return table.drop(columns="column").round(4).astype(object).where(table.notna(), "")


def _cells(table: pd.DataFrame, value: str) -> list[str]:
    """Values with their intervals."""
    numbers = table[[value, "low", "high"]].to_numpy(float).tolist()
    return [in_words(Interval(middle, low, high, folds=0)) for middle, low, high in numbers]
