"""Does the comparison lie? Claims between methods that are the same, power, coverage, a published table.

    python benchmarks/claims.py [--experiments 2000] [--jobs 2] [--out DIR] [--picture FILE]

Experiments are simulated (``nnunet_ext/evaluation/simulation.py``). In the null experiments all methods are the same,
so that each claim "A beats B" is false: the share of experiments with at least one counts, beside what two usual
procedures claim on the same scores. Writes ``claims.json``, ``claims.md`` (`make tables` brings its tables into
docs/statistics.md) and the picture of the power. Exit code 1 if the comparison claims something in more than 6 % of the
null experiments.
"""

import argparse
import gc
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from statsmodels.stats.multitest import multipletests
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a script's own package is not on the path

from benchmarks.record import markdown, write_json  # noqa: E402 - needs the path above
from nnunet_ext.evaluation.claims import LEVEL, compare, false_claim_of_published  # noqa: E402 - see above
from nnunet_ext.evaluation.intervals import mean_interval  # noqa: E402 - see above
from nnunet_ext.evaluation.scores import Scores  # noqa: E402 - see above
from nnunet_ext.evaluation.simulation import Scenario, draw  # noqa: E402 - see above

TOLERATED = 0.06
PART = 4  # the further scenarios and the usual procedures, which only show what they are, see one in so many
LITTLE = Scenario("trainings differ a little", run=0.05)
NULLS = (Scenario("no spread between seeds", run=0.0), LITTLE)
FURTHER = (
    Scenario("trainings differ much", run=0.2),
    Scenario("methods differ from case to case, equal on average", run=0.05, interplay=0.3),
)
POWER = replace(LITTLE, name="power", methods=2)
GAINS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4)  # on the logistic scale
# nnU-Net's own controlled comparison on BraTS 2021, 1251 cases, one training a fold: mean Dice in per cent
# (Isensee et al. 2024, nnU-Net Revisited, arXiv:2404.09556, table 1)
PUBLISHED = {
    "MedNeXt L k5": 91.50,
    "MedNeXt L k3": 91.35,
    "nnU-Net ResEnc M": 91.26,
    "U-Mamba Bot": 91.26,
    "nnU-Net": 91.24,
    "nnU-Net ResEnc XL": 91.18,
    "nnU-Net ResEnc L": 91.13,
    "U-Mamba Enc": 90.91,
    "SwinUNETR": 90.68,
    "nnFormer": 90.22,
}
CASES, FOLDS = 1251, 5
SEED_SDS = (0.1, 0.2, 0.4)  # of a fold's mean, in per cent of Dice
CASE_SD, CORRELATION = 10.0, 0.9  # the publication prints neither


def ours(scores: Scores) -> Sequence[float]:
    """Corrected p-values of our comparison."""
    return [c.p_holm for c in compare(scores) if c.p_holm is not None]


def usual(test: Callable[..., Any], scores: Scores) -> Sequence[float]:
    """Of a test over the cases of one training per fold, corrected for the pairs as ours."""
    first = [scores.better_by(*pair)[0] for pair in scores.pairs()]
    return list(multipletests([test(difference).pvalue for difference in first], method="holm")[1])


OURS = "nnunet_ext"
PROCEDURES: dict[str, Callable[[Scores], Sequence[float]]] = {
    OURS: ours,
    "Wilcoxon over cases, one seed": partial(usual, stats.wilcoxon),
    "t-test over cases, one seed": partial(usual, partial(stats.ttest_1samp, popmean=0)),
}


def claims(procedure: str, scenario: Scenario, seed: int) -> bool:
    """Whether a procedure claims anything in one experiment."""
    return min(PROCEDURES[procedure](draw(scenario, np.random.default_rng(seed)))) < LEVEL


def covered(scenario: Scenario, seed: int) -> bool:
    """Whether the interval of a method's mean holds the mean of very many cases and trainings."""
    scores = draw(scenario, np.random.default_rng(seed))
    interval = mean_interval(scores.values[0], scores.cases_of_folds, seed)
    assert interval.low is not None
    assert interval.high is not None
    return interval.low < _truth(scenario) < interval.high


@cache
def _truth(scenario: Scenario) -> float:
    """The mean over very many cases and trainings."""
    many = replace(scenario, methods=1, seeds=1, folds=2000, cases=100)
    return float(draw(many, np.random.default_rng(0)).values.mean())


def found(scenario: Scenario, seed: int) -> list[bool]:
    """Whether the better of two methods is found with this many seeds, for each gain."""
    experiments = [replace(scenario, better=gain) for gain in GAINS]
    return [compare(draw(s, np.random.default_rng(seed)))[0].verdict == "better" for s in experiments]


def rate(hits: Iterable[bool]) -> dict[str, float]:
    """Share and its standard error."""
    values = np.fromiter(hits, float)
    return {"rate": float(values.mean()), "error": float(np.sqrt(values.mean() * (1 - values.mean()) / values.size))}


def null_rows(pool: ProcessPoolExecutor, experiments: int) -> list[dict[str, Any]]:
    """One row per scenario."""
    rows = []
    for scenario in (*NULLS, *FURTHER):
        row: dict[str, Any] = {"scenario": scenario.name}
        for name in PROCEDURES:
            count = experiments if name == OURS and scenario in NULLS else experiments // PART
            done = pool.map(partial(claims, name, scenario), range(count), chunksize=10)
            row[name] = {**rate(tqdm(done, total=count, desc=f"{scenario.name}: {name}")), "experiments": count}
        row["coverage"] = rate(pool.map(partial(covered, scenario), range(experiments // PART), chunksize=10))
        rows.append(row)
    return rows


def power_rows(pool: ProcessPoolExecutor, experiments: int) -> list[dict[str, Any]]:
    """One row per number of seeds; the gains as what they add to the mean Dice."""
    rows = []
    base = _truth(POWER)
    gains = [_truth(replace(POWER, better=gain)) - base for gain in GAINS]
    for seeds in (2, 3, 5):
        scenario = replace(POWER, seeds=seeds)
        hits = np.array(list(pool.map(partial(found, scenario), range(experiments), chunksize=10)))
        rows.append({"seeds": seeds, "gains": gains, "found": [rate(column) for column in hits.T]})
    return rows


def published_rows() -> list[dict[str, Any]]:
    """Each published method against the next one: what cases alone say, and what the spread between trainings does."""
    rows = []
    names = list(PUBLISHED)
    for better, worse in pairwise(names):
        gain = PUBLISHED[better] - PUBLISHED[worse]
        cases = false_claim_of_published(gain, CASE_SD, CASE_SD, CORRELATION, CASES) if gain else 0.5
        seeds = {f"{sd:g}": float(stats.norm.sf(gain / (sd * np.sqrt(2 / FOLDS)))) for sd in SEED_SDS}
        rows.append({"better": better, "worse": worse, "gain": round(gain, 2), "cases": cases, "seeds": seeds})
    return rows


def tables(record: dict[str, Any]) -> dict[str, str]:
    """Markdown of each table by the name of its markers."""

    def share(cell: dict[str, float]) -> str:
        return f"{100 * cell['rate']:.1f} ± {100 * cell['error']:.1f}"

    nulls = [[r["scenario"], *(share(r[name]) for name in (*PROCEDURES, "coverage"))] for r in record["nulls"]]
    powers = [[str(r["seeds"]), *(f"{100 * cell['rate']:.0f}" for cell in r["found"])] for r in record["power"]]
    gains = [f"+{100 * gain:.2f}" for gain in record["power"][0]["gains"]]
    published = [
        [
            f"{r['better']} > {r['worse']}",
            f"{r['gain']:.2f}",
            f"{r['cases']:.3f}",
            *(f"{p:.3f}" for p in r["seeds"].values()),
        ]
        for r in record["published"]
    ]
    return {
        "nulls": markdown(["false claims in % of experiments", *PROCEDURES, "interval covers, %"], nulls),
        "power": markdown(["seeds", *gains], powers),
        "published": markdown(
            ["claim", "Dice", "P(false), cases only", *(f"SD between seeds {sd:g}" for sd in SEED_SDS)], published
        ),
    }


def picture(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Power against the gain in Dice, a line per number of seeds."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for row in rows:
        gains = [100 * gain for gain in row["gains"]]
        axes.plot(gains, [100 * c["rate"] for c in row["found"]], marker="o", label=f"{row['seeds']} seeds")
    axes.axhline(100 * LEVEL / 2, color="0.6", linestyle=":", label="false claims allowed in this direction")
    axes.set_xlabel("true gain in mean Dice (points)")
    axes.set_ylabel("experiments that find it (%)")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", type=int, default=2000, help="per scenario (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs" / "pictures" / "power.png")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    # statsmodels' multipletests collects garbage in each call; frozen objects are not looked at
    with ProcessPoolExecutor(args.jobs, initializer=gc.freeze) as pool:
        record = {
            "experiments": args.experiments,
            "nulls": null_rows(pool, args.experiments),
            "power": power_rows(pool, args.experiments // PART),
            "published": published_rows(),
        }
    written = tables(record)
    write_json(args.out / "claims.json", [record])
    (args.out / "claims.md").write_text("\n\n".join(written.values()) + "\n", encoding="utf-8")
    picture(record["power"], args.picture)
    print("\n\n".join(written.values()))
    return int(max(row[OURS]["rate"] for row in record["nulls"]) > TOLERATED)


if __name__ == "__main__":
    sys.exit(main())
