"""Computes a random tenth of a comparison's values again from the stored predictions."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

SHARE = 0.1
EQUAL = 1e-9


def verify(folder: Path) -> int:
    """Prints what differs; 1 if something does.

    Args:
        folder: of a comparison.

    Raises:
        ValueError: it holds no comparison.
    """
    import numpy as np
    import pandas as pd

    from nnunet_ext.commands.compare import INTEGRATED, RUNS

    for name in (INTEGRATED, RUNS):
        if not (folder / name).is_file():
            raise ValueError(f"{folder} holds no {name}; make the comparison with nnunet_ext compare -o {folder}.")
    table = pd.read_csv(folder / INTEGRATED, dtype={"case": str}, keep_default_na=False, na_values={"value": [""]})
    runs = pd.read_csv(folder / RUNS, dtype=str, keep_default_na=False)
    cases = table[["run", "case"]].drop_duplicates()
    drawn = cases.sample(max(int(SHARE * len(cases)), 1), random_state=np.random.default_rng())
    differences = []
    for run, chosen in drawn.groupby("run"):
        row = runs[runs["run"] == run].iloc[0]
        differences += _differences(folder, row, table[table["run"] == run], set(chosen["case"]))
    for line in differences:
        print(line)
    told = f"{len(differences)} of them differ" if differences else "all are what the tables say"
    print(f"{len(drawn)} of {len(cases)} evaluated cases were computed again: {told}.")
    return int(bool(differences))


def _differences(folder: Path, row: "pd.Series[str]", table: "pd.DataFrame", chosen: set[str]) -> list[str]:
    """One line for each value that is another one now, and for each case whose files are gone."""
    from nnunet_ext.commands.compare import EVALUATIONS, evaluation_of
    from nnunet_ext.commands.evaluate import task_of
    from nnunet_ext.evaluation import cases
    from nnunet_ext.evaluation.table import metrics_of

    fold, out = Path(row["predictions"]).parent, folder / EVALUATIONS / row["run"]
    task = task_of(evaluation_of(fold, out, convention=row["convention"], labels=row["references"]))
    records = [cases.evaluate(pair, task.settings) for pair in task.pairs if pair.case in chosen]
    gone = chosen - {record["case"] for record in records}
    lines = [f"{row['run']} {case}: neither reference nor prediction is there any more" for case in sorted(gone)]
    keys = ["case", "region", "metric"]
    both = table[table["case"].isin(chosen - gone)].merge(
        metrics_of(records), on=keys, how="outer", suffixes=("", "_2")
    )
    same = ((both["value"] - both["value_2"]).abs() <= EQUAL) | (both["value"] == both["value_2"])
    unequal = both[~same & ~(both["value"].isna() & both["value_2"].isna())]
    return lines + [
        f"{row['run']} {r.case} {r.region} {r.metric}: {r.value} in the table, {r.value_2} now"
        for r in unequal.itertuples()
    ]
