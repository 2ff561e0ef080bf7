"""How much of a prediction each modality carries: exact Shapley values over all subsets of the modalities.

The players are the image channels of the dataset. What a subset is worth is read off nnU-Net's own prediction (folds,
sliding window, resampling, export) of the case whose other modalities are replaced by a baseline after preprocessing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np
import torch
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from numpy.typing import NDArray
from torch import Tensor

from nnunet_ext.explain.baselines import Baseline
from nnunet_ext.explain.cases import Case, modalities_of
from nnunet_ext.explain.regions import Region
from nnunet_ext.explain.shapley import check_number, members, shapley
from nnunet_ext.explain.window import bare

NO_REFERENCE = "the reference has no voxel of it"


@dataclass(frozen=True)
class Prediction:
    """One case in its original image.

    Attributes:
        segmentation: (Z, Y, X), labels.
        probabilities: (K, Z, Y, X), one for each head.
    """

    segmentation: NDArray[np.integer]
    probabilities: NDArray[np.floating]


Value = Callable[[Prediction, Region, NDArray[np.integer], NDArray[np.bool_]], float]
"""Of a prediction, for a region, a reference (Z, Y, X) and the voxels that count."""


def dice(prediction: Prediction, region: Region, reference: NDArray[np.integer], counted: NDArray[np.bool_]) -> float:
    """Dice of the region; NaN where the reference has none of it."""
    true, given = region.mask(reference) & counted, region.mask(prediction.segmentation) & counted
    if not true.any():
        return nan
    return 2 * int((true & given).sum()) / (int(true.sum()) + int(given.sum()))


def probability(
    prediction: Prediction, region: Region, reference: NDArray[np.integer], counted: NDArray[np.bool_]
) -> float:
    """Mean predicted probability within the region of the reference; NaN where the reference has none of it."""
    true = region.mask(reference) & counted
    return float(prediction.probabilities[region.head][true].mean(dtype=np.float64)) if true.any() else nan


FUNCTIONS: Mapping[str, Value] = {"dice": dice, "probability": probability}


@dataclass(frozen=True)
class Game:
    """What the subsets of the modalities are worth for a case, a region, a value function and a baseline.

    Attributes:
        region: its name.
        value: name in FUNCTIONS.
        baseline: name of what replaces a modality.
        worth: of every subset by its number (:mod:`.shapley`); empty where the reference has none of the region.
    """

    region: str
    value: str
    baseline: str
    worth: tuple[float, ...]

    def shapley(self) -> tuple[float, ...]:
        """One number a modality; empty where the game is."""
        return tuple(map(float, shapley(np.array(self.worth)))) if self.worth else ()


def predicted(predictor: nnUNetPredictor, case: Case, data: Tensor) -> Prediction:
    """nnU-Net's prediction for the preprocessed ``data`` of a case."""
    logits = predictor.predict_logits_from_preprocessed_data(data)
    segmentation, probabilities = convert_predicted_logits_to_segmentation_with_correct_shape(
        logits,
        predictor.plans_manager,
        predictor.configuration_manager,
        predictor.label_manager,
        case.properties,
        return_probabilities=True,
    )
    return Prediction(segmentation, probabilities)


def with_only(data: Tensor, subset: Sequence[int], replacement: Tensor) -> Tensor:
    """A preprocessed volume (C, Z, Y, X) with all image channels but those of a subset replaced.

    Args:
        data: of the case; channels beyond the image's, such as coordinates, stay.
        subset: indices of the image channels that stay.
        replacement: (M, Z, Y, X), for the M image channels.
    """
    changed = data.clone()
    absent = [i for i in range(len(replacement)) if i not in subset]
    changed[absent] = replacement[absent].to(data.dtype)
    return changed


def contributions(
    predictor: nnUNetPredictor,
    case: Case,
    reference: NDArray[np.integer],
    *,
    regions: Sequence[Region],
    values: Sequence[str],
    baselines: Mapping[str, Baseline],
    step: Callable[[], object] = lambda: None,
) -> list[Game]:
    """Predicts a case from every subset of its modalities, for every baseline.

    Args:
        predictor: with its model.
        case: preprocessed.
        reference: (Z, Y, X) in the original image.
        regions: that are explained.
        values: names in FUNCTIONS.
        baselines: by name.
        step: called after each of the 2^n predictions of a baseline.

    Returns:
        One game for each baseline, value function and region.

    Raises:
        ValueError: more modalities than exact values can be had for.
    """
    players = len(modalities_of(predictor))
    check_number(players)
    counted = _counted(predictor, reference)

    def worth_of(prediction: Prediction) -> list[list[float]]:
        return [[FUNCTIONS[v](prediction, r, reference, counted) for r in regions] for v in values]

    games: list[Game] = []
    for name, baseline in baselines.items():
        replacement = baseline(case.data[:players].shape)
        worth = np.array(_worths(predictor, case, replacement, worth_of, step))  # (subsets, values, regions)
        games += [
            Game(region.name, value, name, _known(worth[:, i, k]))
            for i, value in enumerate(values)
            for k, region in enumerate(regions)
        ]
    return games


def _worths(
    predictor: nnUNetPredictor,
    case: Case,
    replacement: Tensor,
    worth_of: Callable[[Prediction], list[list[float]]],
    step: Callable[[], object],
) -> list[list[list[float]]]:
    """What every coalition is worth; those that differ in channels alone that the network never reads share it."""
    found: dict[int, list[list[float]]] = {}
    order = [coalition & channels_read(predictor) for coalition in range(2 ** len(replacement))]
    # equal inputs have equal outputs, so that a modality that changes nothing has exactly 0
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
        for coalition in order:
            if coalition not in found:
                subset = members(coalition, len(replacement))
                found[coalition] = worth_of(predicted(predictor, case, with_only(case.data, subset, replacement)))
            step()
    return [found[coalition] for coalition in order]


def channels_read(predictor: nnUNetPredictor) -> int:
    """The image channels that the network reads, as a coalition: branches select theirs, other networks read all."""
    chosen: Any = getattr(getattr(bare(predictor.network), "encoder", None), "modality_channels", None)
    read = range(len(modalities_of(predictor))) if chosen is None else chosen.tolist()
    return sum(1 << channel for channel in read)


def _counted(predictor: nnUNetPredictor, reference: NDArray[np.integer]) -> NDArray[np.bool_]:
    ignored = predictor.label_manager.ignore_label
    counted: NDArray[np.bool_] = np.ones(reference.shape, bool) if ignored is None else reference != ignored
    return counted


def _known(worth: NDArray[np.float64]) -> tuple[float, ...]:
    return () if np.isnan(worth).any() else tuple(map(float, worth))
