"""Columns, and predictions made at random, for the tests of the statistics."""

import numpy as np

from nnunet_ext.outcomes.cases import Predictions
from nnunet_ext.outcomes.columns import Column

GRADE = Column("grade", "class", ("LGG", "HGG"))
SUBTYPE = Column("subtype", "class", ("A", "B", "C"))
STAGE = Column("stage", "ordinal", ("short", "medium", "long"))
SCORE = Column("score", "regression", unit="years", bands=(0.5, 1.0, 2.0))
DAYS = Column("days", "survival", unit="days", cuts=(300.0, 450.0), censoring="censored")
COLUMNS = (GRADE, SUBTYPE, STAGE, SCORE, DAYS)


def drawn(column: Column, n: int, seed: int = 0, skill: float = 1.0) -> Predictions:
    """Predictions of ``n`` cases; with ``skill`` 0 they know nothing of the truth."""
    generator = np.random.default_rng(seed)
    if column.is_discrete:
        levels = len(column.levels)
        truth = generator.permutation(np.arange(n) % levels)
        logits = skill * np.eye(levels)[truth] + generator.normal(size=(n, levels))
        probability = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        return Predictions(truth, probability.argmax(1), probability)
    truth = generator.normal(400, 150, n).clip(1).round() if column.kind == "survival" else generator.normal(size=n)
    spread = truth.std() if n > 1 else 1.0
    prediction = skill * truth + generator.normal(0, spread, n)
    censored = generator.random(n) < 0.3 if column.kind == "survival" else np.zeros(n, bool)
    return Predictions(truth, prediction, None, prediction - spread, prediction + spread, censored)
