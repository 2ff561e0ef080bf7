"""The table of a fold's validation cases, and how a number's interval comes about."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from nnunet_ext.outcomes import results
from nnunet_ext.outcomes.columns import REGRESSION, Column
from nnunet_ext.outcomes.conformal import half_width
from nnunet_ext.outcomes.heads import LEVEL
from nnunet_ext.outcomes.prediction import case_outputs
from nnunet_ext.trainers import distributed

if TYPE_CHECKING:
    from nnunet_ext.outcomes.trainer import CaseTrainer

INTERVALS = {
    "level": LEVEL,
    "regression": "split conformal; of a validation case by the residuals of the fold's other patients; with "
    "the word Hetero quantiles of the normal errors that the head tells",
    "survival": "quantiles of the log-logistic time",
}


def outputs_of(trainer: "CaseTrainer", cases: Sequence[str], mirrored: Sequence[int] | None = None) -> Tensor:
    """(n, O) of whole preprocessed cases by the trainer's network as it is; several processes share them.

    Args:
        trainer: of the network.
        cases: of its dataset.
        mirrored: axes of the patch; see :func:`.prediction.case_outputs`.
    """
    mine = cases[trainer.local_rank :: len(distributed.gather(None))]
    dataset = trainer.dataset_class(trainer.preprocessed_dataset_folder, list(mine))
    network = trainer.bare_network
    network.eval()
    trainer.set_deep_supervision_enabled(False)
    size, found = trainer.configuration_manager.patch_size, {}
    for case in tqdm(mine, desc="validation cases", disable=trainer.local_rank != 0, leave=False):
        image = torch.from_numpy(np.asarray(dataset.load_case(case)[0][:], np.float32))
        told = trainer.covariates_of(case)
        found[case] = case_outputs(network, image, size, trainer.device, trainer.recipe.precision, told, mirrored)
    trainer.set_deep_supervision_enabled(trainer.enable_deep_supervision)
    every = {case: outputs for part in distributed.gather(found) for case, outputs in part.items()}
    return torch.stack([every[case] for case in cases])


def write(trainer: "CaseTrainer", cases: Sequence[str], outputs: Tensor) -> dict[str, dict[str, float]]:
    """Writes ``case_metrics.csv`` and ``case_metrics.json`` into the fold's validation folder; returns the metrics."""
    targets, fold, seed = trainer.targets, trainer.fold, trainer.recipe.seed
    found = trainer.bare_network.heads.read(outputs.to(trainer.device))
    parts = []
    for column in trainer.columns:
        truth = [targets.row(case)[column.name] for case in cases]
        known = set(targets.known(column.name, cases))
        censored = [case in known and not targets.observed(column.name, case) for case in cases]
        told = {"fold": fold, "seed": seed, "patient": [targets.groups[case] for case in cases]}
        if column.censoring:
            told["censored"] = np.array(censored, float)
        table = rows_of(column, cases, found[column.name]) | {"truth": truth} | told
        if column.kind == REGRESSION and not column.spread:
            ends = left_out_intervals(table["prediction"], targets.values(column.name, cases), told["patient"])
            table["lower"], table["upper"] = ends
        parts.append(pd.DataFrame(table))
    folder = Path(trainer.output_folder, "validation")
    folder.mkdir(parents=True, exist_ok=True)
    facts = {
        "dataset": trainer.plans_manager.dataset_name,
        "trainer": type(trainer).__name__,
        "plans": trainer.plans_manager.plans_name,
        "configuration": trainer.configuration_name,
        "training_cases": len(trainer._cases[0]),
        "epochs": trainer.current_epoch,
        "checkpoint": trainer._weights,
        "intervals": INTERVALS,
    }
    return results.write(folder, pd.concat(parts, ignore_index=True), trainer.columns, facts)


def rows_of(column: Column, cases: Sequence[str], found: Mapping[str, Tensor]) -> dict[str, Any]:
    """The table's fields of a column that need no truth: lists of n, or one value for all."""
    table: dict[str, Any] = {"case": list(cases), "column": column.name, "kind": column.kind}
    if column.is_discrete:
        probabilities = found["probabilities"].double().cpu().numpy()
        table["prediction"] = [column.levels[i] for i in probabilities.argmax(1)]
        for i, level in enumerate(column.levels):
            table[results.PROBABILITY + level] = probabilities[:, i]
        return table
    for name, field in (("value", "prediction"), ("lower", "lower"), ("upper", "upper")):
        if name in found:
            table[field] = found[name].double().cpu().numpy()
    return table


def left_out_intervals(
    predictions: np.ndarray, truth: np.ndarray, patients: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Ends (n,) around each case's prediction by the residuals of other patients' cases; NaN where these are too few.

    A patient's further cases err alike, so that intervals by them would cover more than they do of a new patient.
    """
    residuals, of = truth - predictions, np.array(patients)
    known = ~np.isnan(residuals)
    half = np.array([half_width(residuals[known & (of != patient)], LEVEL) for patient in patients])
    half[np.isinf(half)] = np.nan
    return predictions - half, predictions + half


def told(metrics: Mapping[str, Mapping[str, float]], heading: str = "Validation cases") -> str:
    """The metrics for people, a line a column."""
    lines = [f"{heading}:"]
    for column, values in metrics.items():
        lines.append(f"  {column}: " + ", ".join(f"{name} {value:.4g}" for name, value in values.items()))
    return "\n".join(lines)
