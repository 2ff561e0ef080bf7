"""Reading a trained model.

nnU-Net finds a trainer's class by importing every trainer that it has, which takes longer than the cascade needs for
a case. The networks of our trainers are found by name here; all others are read by nnU-Net itself.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_ext.trainers.building import network_builder


def load_model(
    predictor: nnUNetPredictor, folder: str, folds: Sequence[int | str] | None, checkpoint: str = "checkpoint_final.pth"
) -> None:
    """What nnU-Net's ``initialize_from_trained_model_folder`` does, with the same result."""
    if folds is None:
        folds = predictor.auto_detect_available_folds(folder, checkpoint)
    # as nnU-Net reads them: its own checkpoints hold more than tensors
    saved: list[dict[str, Any]] = [
        torch.load(Path(folder, f"fold_{fold}", checkpoint), map_location="cpu", weights_only=False) for fold in folds
    ]
    build = network_builder(saved[0]["trainer_name"])
    if build is None:
        nnUNetPredictor.initialize_from_trained_model_folder(predictor, folder, folds, checkpoint)
        return
    plans, dataset = (json.loads(Path(folder, f"{name}.json").read_text()) for name in ("plans", "dataset"))
    manager = PlansManager(plans)
    configuration = manager.get_configuration(saved[0]["init_args"]["configuration"])
    channels = determine_num_input_channels(manager, configuration, dataset)
    classes = manager.get_label_manager(dataset).num_segmentation_heads
    network = build(configuration, channels, classes, deep_supervision=False)
    predictor.manual_initialization(
        network,
        manager,
        configuration,
        [s["network_weights"] for s in saved],
        dataset,
        saved[0]["trainer_name"],
        saved[0].get("inference_allowed_mirroring_axes"),
    )
