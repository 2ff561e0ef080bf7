"""Outcomes that are planted into phantoms: what a network can learn of a case, and how well at best.

The radius of the tumour decides about the days, up to what age and chance add; a rim that enhances decides about the
grade. Both vary independently, so that a network that learnt one of them does not know the other.
"""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dataset_conversion.brats.files import write_whole

SMALLEST, LARGEST = 0.22, 0.52
"""Radius of the tumour in half brains."""
FEWEST, MOST = 150.0, 600.0
"""Days of the largest and of the smallest tumour; the limits of the classes, 300 and 450, make three equal thirds."""
PER_YEAR = -1.5
"""Days that a year of age above 60 adds."""
CHANCE = 15.0
"""Standard deviation of what nothing explains, days; of the days' variance the radius explains about 0.97."""
TABLES = {"2018": ("BraTS18ID", "Age", "Survival", "ResectionStatus")}
"""Header of the survival table of an edition that has one."""
TABLE = "survival_data.csv"


class Outcome(NamedTuple):
    """What is planted into a phantom.

    Attributes:
        low_grade: LGG, whose core does not enhance; every second case.
        radius: of the tumour, half brains.
        days: of survival; of a censored case those until the last news, half of them at least.
        censored: whether the patient lived then; every tenth case.
        age: in years, one decimal.
        resection: GTR, STR or NA.
    """

    low_grade: bool
    radius: float
    days: int
    censored: bool
    age: float
    resection: str


def plant(seed: int, index: int) -> Outcome:
    """The outcome of case ``index`` of the set that ``seed`` names."""
    rng = np.random.default_rng([seed, index, 17])  # another stream than the brain's
    radius = float(rng.uniform(SMALLEST, LARGEST))
    age = round(float(rng.uniform(40, 80)), 1)
    share = (LARGEST - radius) / (LARGEST - SMALLEST)
    days = FEWEST + share * (MOST - FEWEST) + PER_YEAR * (age - 60) + CHANCE * float(rng.standard_normal())
    resection = ("GTR", "STR", "GTR", "NA")[int(rng.integers(4))]
    censored = index % 10 == 9
    days *= float(rng.uniform(0.5, 1)) if censored else 1
    return Outcome(index % 2 == 1, radius, max(5, round(days)), censored, age, resection)


def write_survival(path: Path, edition: str, outcomes: Mapping[str, Outcome]) -> None:
    """Write the edition's survival table of the cases."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(TABLES[edition])
    for case, outcome in outcomes.items():
        days = f"ALIVE ({outcome.days} days later)" if outcome.censored else outcome.days
        table.writerow([case, outcome.age, days, outcome.resection])
    write_whole(path, text.getvalue().encode())
