"""What the networks of trained models cost, stock ones as well: predicted on the meta device from their plans."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nnunet_ext.evaluation.json_files import read_json

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from nnunet_ext.evaluation.runs import Run

MIB = 2**20


def costs(runs: "Sequence[Run]", latency: int = 0) -> "tuple[pd.DataFrame, pd.DataFrame]":
    """One row a method, and one for each of its stages.

    Args:
        runs: the first one of each method counts.
        latency: how often one patch is predicted on this machine's CPU to measure it; 0 leaves it out.
    """
    import pandas as pd
    from tqdm import tqdm

    first = {run.method: run for run in reversed(runs)}
    rows, stages = [], []
    for method, run in tqdm(first.items(), "cost", unit="network", disable=None):
        row, of_stages = _cost(run, latency)
        rows.append({"method": method, **row})
        stages += [{"method": method, **stage} for stage in of_stages]
    return pd.DataFrame(rows), pd.DataFrame(stages)


def _cost(run: "Run", latency: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    import torch

    from nnunet_ext.profiling.predict import predict

    with torch.device("meta"):
        network, shape = _network(run, deep_supervision=True)
    cost = predict(network, shape, optimiser=run.recipe().get("optimiser", "SGD"))
    row = {
        "input": "x".join(map(str, shape)),
        "parameters": cost.parameters,
        "macs": cost.macs,
        "pam_training_mib": cost.training.activations / MIB,
        "pam_inference_mib": cost.inference.activations / MIB,
        "latency_cpu_s": _latency(run, latency) if latency else None,
    }
    stages = [
        {
            "stage": stage.stage,
            "parameters": stage.parameters,
            "macs": stage.macs,
            "pam_training_mib": stage.training / MIB,
            "pam_inference_mib": stage.inference / MIB,
        }
        for stage in cost.stages
    ]
    return row, stages


def _latency(run: "Run", repeats: int) -> float:
    """Median seconds of one patch at batch 1."""
    import torch

    from nnunet_ext.profiling.measure import measure_latency

    network, shape = _network(run, deep_supervision=False)
    return float(measure_latency(network.eval(), torch.zeros(1, *shape[1:]), "fp32", repeats).median)


def _network(run: "Run", *, deep_supervision: bool) -> "tuple[nn.Module, tuple[int, ...]]":
    """The network as nnU-Net builds it for the plans beside the model, and the shape of its batch."""
    from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    plans, dataset = (
        read_json(run.folder.parent / f"{name}.json", "restore it, or leave the cost out with --no-cost")
        for name in ("plans", "dataset")
    )
    manager = PlansManager(plans)
    configuration = manager.get_configuration(run.configuration)
    channels = determine_num_input_channels(manager, configuration, dataset)
    classes = manager.get_label_manager(dataset).num_segmentation_heads
    network: nn.Module = _trainer(run.trainer).build_network_architecture(
        manager, configuration, channels, classes, deep_supervision
    )
    further = 3 * bool(run.recipe().get("coordinates"))
    return network, (configuration.batch_size, channels + further, *configuration.patch_size)


def _trainer(name: str) -> Any:
    """Ours by name; others as nnU-Net finds them."""
    from nnunet_ext.trainers import trainer_class

    try:
        return trainer_class(name)
    except AttributeError:
        from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

        return recursive_find_trainer_class_by_name(name)
