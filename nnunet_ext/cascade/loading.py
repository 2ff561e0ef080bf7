"""Reading a trained model.

nnU-Net finds a trainer's class by importing every trainer that it has, which takes longer than the cascade needs for
a case. The networks of our trainers are found by name here; all others are read by nnU-Net itself.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_ext.trainers.building import network_builder
from nnunet_ext.trainers.reading import read_safely


def load_model(
    predictor: nnUNetPredictor, folder: Path, folds: Sequence[int | str], checkpoint: str = "checkpoint_final.pth"
) -> None:
    """What nnU-Net's ``initialize_from_trained_model_folder`` does, with the same result.

    Args:
        predictor: that is to predict with the model.
        folder: of the model.
        folds: at least one.
        checkpoint: file name.
    """
    facts, weights = _read(folder / f"fold_{folds[0]}" / checkpoint)
    build = network_builder(facts["trainer_name"])
    if build is None:
        del weights
        nnUNetPredictor.initialize_from_trained_model_folder(predictor, str(folder), folds, checkpoint)
        return
    plans, dataset = (
        json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in ("plans", "dataset")
    )
    manager = PlansManager(plans)
    configuration = manager.get_configuration(facts["init_args"]["configuration"])
    channels = determine_num_input_channels(manager, configuration, dataset)
    classes = manager.get_label_manager(dataset).num_segmentation_heads
    network = build(configuration, channels, classes, deep_supervision=False)
    network.load_state_dict(weights)
    predictor.manual_initialization(
        network,
        manager,
        configuration,
        [weights, *(_read(folder / f"fold_{fold}" / checkpoint)[1] for fold in folds[1:])],
        dataset,
        facts["trainer_name"],
        facts.get("inference_allowed_mirroring_axes"),
    )


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a checkpoint says of itself, and its weights; the optimiser's state, twice as much, is not read.

    Raises:
        ValueError: the file is no checkpoint of torch, is cut short, or asks for code to be run.
    """
    saved = read_safely(path, mapped=True)
    weights = saved["network_weights"]
    for name, tensor in weights.items():
        weights[name] = tensor.clone()  # read, and off the file
    keys = ("trainer_name", "init_args", "inference_allowed_mirroring_axes")
    return {key: saved[key] for key in keys if key in saved}, weights
