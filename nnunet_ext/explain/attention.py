"""The attention weights of QuadBranchAttention for a case, and how far they agree with Shapley values."""

from collections.abc import Sequence
from math import nan
from typing import Any

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from scipy.stats import kendalltau

from nnunet_ext.explain.cases import Case, modalities_of
from nnunet_ext.explain.window import Window, bare
from nnunet_ext.networks.channels import modality_of


def attention_weights(predictor: nnUNetPredictor, case: Case) -> tuple[float, ...]:
    """One weight for each modality of the dataset, in its order: the mean over folds, tiles and stages.

    Empty for a network without such weights. A modality that no branch reads has NaN.
    """
    network: Any = bare(predictor.network)
    if not hasattr(network, "modality_weights"):
        return ()
    read = [m for branch in network.encoder.branch_modalities for m in branch]
    window = Window(predictor, case.data)
    found = []
    for weights in predictor.list_of_parameters:
        network.load_state_dict(weights)
        network.to(predictor.device).eval()
        with torch.inference_mode():
            found += [network.modality_weights(tile)[0].double().cpu() for _, tile in window.tiles()]
    mean = dict(zip(read, torch.stack(found).mean(0).tolist(), strict=True))
    return tuple(mean.get(modality_of(name) or "", nan) for name in modalities_of(predictor))


def agreement(values: Sequence[float], weights: Sequence[float]) -> float:
    """Kendall's tau-b of two rankings of the modalities: 1 for the same, -1 for opposite ones; NaN if one is flat."""
    return float(kendalltau(values, weights, nan_policy="omit").statistic)
