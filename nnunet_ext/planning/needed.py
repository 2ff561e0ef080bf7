"""What one training needs under plans as they are: our networks and nnU-Net's own, on a GPU or on a CPU."""

from collections.abc import Mapping
from typing import Any

import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_ext.networks.channels import channel_names, resolve_channels
from nnunet_ext.networks.spec import NetworkSpec
from nnunet_ext.planning.memory import PREDICTED, TrainingMemory
from nnunet_ext.profiling.devices import Device
from nnunet_ext.profiling.predict import follow_training, memory


def of_network(
    spec: NetworkSpec,
    size: str,
    changed: Mapping[str, Any],
    configuration: Mapping[str, Any],
    dataset_json: Mapping[str, Any],
    device: Device,
) -> tuple[int, tuple[str, ...]]:
    """Predicted bytes of a training step, and the fields of the recipe that the prediction leaves out.

    Args:
        spec: the network.
        size: of it.
        changed: fields of the recipe other than nnU-Net's that may change memory.
        configuration: of the plans, what it inherits included.
        dataset_json: the dataset's description.
        device: whose kernels are assumed.

    Raises:
        ValueError: the network cannot be built for these plans, or the dataset lacks one of its modalities.
    """
    images = channel_names(dataset_json)
    if spec.modalities:
        resolve_channels(spec.modalities, images)
    known = {name: value for name, value in changed.items() if name in PREDICTED}
    if device == "cpu" and known.get("precision", "device") == "device":
        known["precision"] = "FP32"  # nnU-Net's mixed precision is for CUDA alone
    step = TrainingMemory.of(spec, size, known, device)
    shape = (changed.get("batch", configuration["batch_size"]), len(images), *configuration["patch_size"])
    architecture = configuration["architecture"]["arch_kwargs"]
    classes = spec.outputs(_heads(dataset_json))
    left_out = tuple(sorted(set(changed) - PREDICTED - {"batch"}))
    return step(architecture, shape, classes=classes, image_channels=len(images)), left_out


def of_stock(configuration: Mapping[str, Any], dataset_json: Mapping[str, Any], device: Device) -> int:
    """Predicted bytes of a training step of the network that the plans themselves name, trained by nnU-Net's recipe.

    Args:
        configuration: of the plans, what it inherits included.
        dataset_json: the dataset's description.
        device: whose kernels are assumed.
    """
    planned = configuration["architecture"]
    channels = len(channel_names(dataset_json))
    with torch.device("meta"):
        network = get_network_from_plans(
            planned["network_class_name"],
            planned["arch_kwargs"],
            planned["_kw_requires_import"],
            channels,
            _heads(dataset_json),
            allow_init=False,
            deep_supervision=True,
        )
    shape = (configuration["batch_size"], channels, *configuration["patch_size"])
    peak, _ = follow_training(network, shape, precision="amp" if device == "cuda" else "fp32", device=device)
    return memory(peak).total


def _heads(dataset_json: Mapping[str, Any]) -> int:
    labels = LabelManager(dataset_json["labels"], dataset_json.get("regions_class_order"))
    return int(labels.num_segmentation_heads)
