"""Do the statistics of case-level outcomes find something where there is nothing?

    python benchmarks/outcomes_null.py [--experiments 500] [--jobs 2] [--out DIR]

Each experiment is a cross-validation of three methods (ridge regressions on 20 features, fitted inside the folds, which
stand for networks) with age as covariate. The targets are permuted, so that neither features nor age say anything. A
claim is a method that is better than every baseline and has enough cases, as `nnunet_ext outcomes` says it; any of the
three makes the experiment count. Beside it: what is claimed without the rule on few cases, and what is claimed where
the features do say something. Writes ``outcomes_null.json`` and ``outcomes_null.md``. Exit code 1 if more than 5 % of
the experiments of a row with permuted targets claim something.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a script's own package is not on the path

from benchmarks.record import markdown, write_json  # noqa: E402 - needs the path above
from nnunet_ext.outcomes import baselines  # noqa: E402 - see above
from nnunet_ext.outcomes.cases import Predictions  # noqa: E402 - see above
from nnunet_ext.outcomes.columns import Column  # noqa: E402 - see above
from nnunet_ext.outcomes.honest import Drawn, Fold, level_for, primary_of, proves_nothing, span_of  # noqa: E402

TOLERATED = 0.05
METHODS, FOLDS, FEATURES = 3, 5, 20
PENALTY = 5.0
PART = 10  # rows that only show what a true effect gives see one experiment in so many
COLUMNS = (
    Column("grade", "class", ("LGG", "HGG")),
    Column("stage", "ordinal", ("short", "medium", "long")),
    Column("score", "regression", unit="years"),
    Column("days", "survival", unit="days", censoring="censored"),
)


@dataclass(frozen=True)
class Scenario:
    """What is simulated: a target of how many patients, and how much of its variance the features explain."""

    column: Column
    patients: int
    explained: float = 0.0


SCENARIOS = (
    *(Scenario(column, patients) for column in COLUMNS for patients in (20, 40, 120)),
    *(Scenario(column, 120, 0.5) for column in COLUMNS),
)


def experiment(scenario: Scenario, seed: int) -> tuple[bool, bool]:
    """Whether anything is claimed, and whether it would be without the rule on few cases."""
    found = (False, False)
    for with_age in (False, True):  # lifelines' fit is only waited for where the constants are beaten
        found = judged(scenario, seed, with_age)
        if not found[1]:
            break
    return found


def judged(scenario: Scenario, seed: int, with_age: bool) -> tuple[bool, bool]:
    """The same against the constants, or against age as well."""
    column = scenario.column
    drawn = Drawn(column, list(_folds(scenario, np.random.default_rng(seed), with_age)), seed)
    names = [f"method {m}" for m in range(METHODS)]
    others = [name for name in drawn.folds[0].methods if name not in names]
    metric = primary_of(column, drawn, names)
    level = level_for(METHODS)
    better = {n: all(drawn.difference(n, other, metric, level).better for other in others) for n in names}
    span = span_of(drawn, metric, others)
    enough = {n: not proves_nothing(drawn.interval(n, metric), scenario.patients, span) for n in names}
    return any(better[n] and enough[n] for n in names), any(better.values())


def _folds(scenario: Scenario, generator: np.random.Generator, with_age: bool) -> Iterator[Fold]:
    features = generator.normal(size=(METHODS, scenario.patients, FEATURES))
    features[:, :, 0] = features[0, :, 0]  # what may say something is seen by all methods
    age = generator.normal(size=(scenario.patients, 1))
    truth, censored = _targets(scenario, features[0, :, 0], generator)
    places = generator.permutation(scenario.patients) % FOLDS
    for place in range(FOLDS):
        inside, test = places != place, places == place
        training = baselines.Known(truth[inside], censored[inside])
        empty = Predictions(truth[test], truth[test], censored=censored[test])
        made = {
            f"method {m}": _ridge(scenario.column, x[inside], training, x[test], empty) for m, x in enumerate(features)
        }
        made |= baselines.constants(scenario.column, training, empty)
        if with_age:
            made["age"] = baselines.from_covariates(scenario.column, training, age[inside], empty, age[test])
        cases = tuple(map(str, np.flatnonzero(test)))
        yield Fold(str(place), cases, cases, {name: (predicted,) for name, predicted in made.items()})


def _targets(scenario: Scenario, signal: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(n,) truths and whether each is censored."""
    noise = generator.normal(size=scenario.patients)
    latent = np.sqrt(scenario.explained) * signal + np.sqrt(1 - scenario.explained) * noise
    if scenario.column.is_discrete:
        levels = len(scenario.column.levels)
        return np.argsort(np.argsort(latent)) * levels // scenario.patients, np.zeros(scenario.patients, bool)
    is_time = scenario.column.kind == "survival"
    censored = generator.random(scenario.patients) < (0.2 if is_time else 0)
    return np.exp(6 + 0.7 * latent) if is_time else latent, censored


def _ridge(
    column: Column, features: np.ndarray, training: baselines.Known, test_features: np.ndarray, empty: Predictions
) -> Predictions:
    """Numbers by ridge regression; levels by that of their indicators."""
    targets = np.eye(len(column.levels))[training.truth] if column.is_discrete else training.truth[:, None]
    mean = targets.mean(0)
    gram = features.T @ features + PENALTY * np.eye(FEATURES)
    found = test_features @ np.linalg.solve(gram, features.T @ (targets - mean)) + mean
    if not column.is_discrete:
        return Predictions(empty.truth, found[:, 0], censored=empty.censored)
    probability = found.clip(1e-6)
    return Predictions(empty.truth, found.argmax(1), probability / probability.sum(1, keepdims=True))


def rows_of(pool: ProcessPoolExecutor, experiments: int) -> list[dict[str, Any]]:
    """One row per scenario."""
    rows = []
    for scenario in SCENARIOS:
        count = -(-experiments // PART) if scenario.explained else experiments
        done = pool.map(partial(experiment, scenario), range(count), chunksize=10)
        told = f"{scenario.column.kind}, {scenario.patients} patients"
        hits = np.array(list(tqdm(done, told, count, disable=None)))
        rows.append(
            {
                "kind": scenario.column.kind,
                "patients": scenario.patients,
                "explained": scenario.explained,
                "experiments": count,
                "claims": float(hits[:, 0].mean()),
                "claims_without_the_rule": float(hits[:, 1].mean()),
            }
        )
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """As Markdown, in per cent with the standard error."""

    def share(value: float, count: int) -> str:
        return f"{100 * value:.1f} ± {100 * np.sqrt(value * (1 - value) / count):.1f}"

    header = ["kind", "patients", "features explain", "claims, % of experiments", "without the rule on few cases, %"]
    lines = [
        [
            row["kind"],
            str(row["patients"]),
            f"{row['explained']:.0%}",
            share(row["claims"], row["experiments"]),
            share(row["claims_without_the_rule"], row["experiments"]),
        ]
        for row in rows
    ]
    return markdown(header, lines)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", type=int, default=500, help="per scenario (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(args.jobs) as pool:
        rows = rows_of(pool, args.experiments)
    text = table(rows)
    write_json(args.out / "outcomes_null.json", rows)
    (args.out / "outcomes_null.md").write_text(text + "\n", encoding="utf-8")
    print(text)
    return int(max(row["claims"] for row in rows if not row["explained"]) > TOLERATED)


if __name__ == "__main__":
    sys.exit(main())
