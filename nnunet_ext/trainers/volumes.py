"""Dice on full validation volumes during a training, by nnU-Net's sliding window."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.label_handling.label_handling import convert_labelmap_to_one_hot

from nnunet_ext.trainers import distributed

if TYPE_CHECKING:
    from nnunet_ext.trainers.applying import RecipeTrainer

MOST_CASES = 16  # a fold of BraTS has 250 and takes hours; every so many of them are evenly spread


def mean_dice(trainer: "RecipeTrainer") -> float:
    """Mean Dice over validation cases and regions (classes) of the network as it is, without mirroring.

    Regions that are empty in truth and prediction are left out. Processes that train together share the cases.
    """
    _, keys = trainer.do_split()
    chosen = keys[:: -(-len(keys) // MOST_CASES)]
    mine = chosen[trainer.local_rank :: len(distributed.gather(None))]
    trainer.set_deep_supervision_enabled(False)
    trainer.bare_network.eval()
    found = dict(_scores(trainer, mine))
    trainer.set_deep_supervision_enabled(trainer.enable_deep_supervision)
    scores = {key: values for part in distributed.gather(found) for key, values in part.items()}
    return float(np.nanmean([scores[key] for key in chosen]))


def _scores(trainer: "RecipeTrainer", keys: list[str]) -> Iterator[tuple[str, list[float]]]:
    dataset = trainer.dataset_class(
        trainer.preprocessed_dataset_folder,
        keys,
        folder_with_segs_from_previous_stage=trainer.folder_with_segs_from_previous_stage,
    )
    predictor = _predictor(trainer)
    for key in keys:
        data, truth, previous, _ = dataset.load_case(key)
        data = data[:]
        if trainer.is_cascaded:
            labels = trainer.label_manager.foreground_labels
            data = np.vstack((data, convert_labelmap_to_one_hot(previous[:], labels, output_dtype=data.dtype)))
        logits = predictor.predict_sliding_window_return_logits(torch.tensor(data))
        predicted = trainer.label_manager.convert_logits_to_segmentation(logits.cpu())
        yield key, case_dice(np.asarray(predicted), truth[:][0], trainer.label_manager)


def _predictor(trainer: "RecipeTrainer") -> nnUNetPredictor:
    predictor = nnUNetPredictor(use_mirroring=False, device=trainer.device, allow_tqdm=False)
    predictor.manual_initialization(
        trainer.bare_network,
        trainer.plans_manager,
        trainer.configuration_manager,
        None,
        trainer.dataset_json,
        type(trainer).__name__,
        None,
    )
    return predictor


def case_dice(predicted: np.ndarray, truth: np.ndarray, labels: Any) -> list[float]:
    """Dice of each region or class of two label maps (Z, Y, X); NaN where both are empty."""
    counted = truth != labels.ignore_label if labels.has_ignore_label else np.ones_like(truth, bool)
    dice = []
    for region in labels.foreground_regions if labels.has_regions else labels.foreground_labels:
        a, b = (np.isin(volume, region) & counted for volume in (predicted, truth))
        total = int(a.sum() + b.sum())
        dice.append(2 * int((a & b).sum()) / total if total else float("nan"))
    return dice
