"""Tables and sentences of case-level results, for the command and its page."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from nnunet_ext.evaluation.runs import Run
from nnunet_ext.outcomes import ensembles, gathering
from nnunet_ext.outcomes.bootstrapping import Interval
from nnunet_ext.outcomes.columns import Column
from nnunet_ext.outcomes.combining import refuse_overlap
from nnunet_ext.outcomes.ensembles import Recipe, Weights
from nnunet_ext.outcomes.honest import Drawn, Fold, differences, fold_table, level_for, summary_table
from nnunet_ext.outcomes.metrics import PRIMARY, metrics_of
from nnunet_ext.outcomes.page import Part
from nnunet_ext.outcomes.results import TEST
from nnunet_ext.outcomes.sentences import in_words, said

CROSS_VALIDATION = "cross-validation"


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
    """

    tested: str
    drawn: Drawn
    ranked: tuple[str, ...]
    refused: Mapping[str, str]
    ensembles: tuple[str, ...]
    baselines: tuple[str, ...]
    level: float
    left_out: tuple[str, ...]

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
        return found


def judge(
    column: Column,
    sources: Sequence[gathering.Source],
    tests: Sequence[gathering.Source],
    around: gathering.Surroundings,
    recipe: Recipe | None,
    columns: int,
) -> tuple[list[Judged], list[tuple[Column, str, Weights]]]:
    """A column in cross-validation and, where there are ``tests``, in the external test; and ensembles' weights.

    Args:
        column: what is predicted.
        sources: of the trainings.
        tests: of the external test.
        around: what is known beside the predictions.
        recipe: of an ensemble that is wanted.
        columns: judged together.

    Raises:
        ValueError: see the modules that it calls.
    """
    folds = gathering.folds_of(column, sources)
    methods = list(folds[0].methods)
    order = ensembles.ranking(column, folds, methods)
    weights: list[Weights] = []
    tested, names = gathering.with_baselines(column, folds, around)
    if recipe:
        tested, weights = ensembles.out_of_fold(column, tested, methods, recipe)
    pairs = [(CROSS_VALIDATION, tested, sources)]
    if tests:
        external, further = _external(column, folds, tests, around, recipe)
        weights += further
        pairs.append((TEST, external, tests))
    further_names = (recipe.name,) if recipe else ()
    level = level_for(columns * (len(methods) + len(further_names)))
    known = (order.names, order.refused, further_names, tuple(names), level)
    made = [Judged(what, Drawn(column, of), *known, gathering.without_truth(column, s)) for what, of, s in pairs]
    return made, [(column, name, found) for name in further_names for found in weights]


def _external(
    column: Column,
    folds: Sequence[Fold],
    tests: Sequence[gathering.Source],
    around: gathering.Surroundings,
    recipe: Recipe | None,
) -> tuple[list[Fold], list[Weights]]:
    """The external test as a fold; everything in it was fitted on the validation folds."""
    (fold,) = gathering.folds_of(column, tests)
    seen = {case: patient for f in folds for case, patient in zip(f.cases, f.patients, strict=True)}
    refuse_overlap(seen, dict(zip(fold.cases, fold.patients, strict=True)))
    made, _ = gathering.with_baselines(column, [fold], around, trained_on=folds)
    if not recipe:
        return made, []
    found = ensembles.fitted(column, folds, list(folds[0].methods), recipe, TEST)
    return [ensembles.applied(column, made[0], found, recipe)], [found]


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


def weights_table(weights: Sequence[tuple[Column, str, Weights]]) -> pd.DataFrame:
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
    return Part(title, part.verdicts, shown, part.baselines, of_gains, wide.reset_index(), picture)


def _cells(table: pd.DataFrame, value: str) -> list[str]:
    """Values with their intervals."""
    numbers = table[[value, "low", "high"]].to_numpy(float).tolist()
    return [in_words(Interval(middle, low, high, folds=0)) for middle, low, high in numbers]
