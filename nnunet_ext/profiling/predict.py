"""Predicts what a network costs without running it: on meta tensors, on any machine.

    with torch.device("meta"):
        network = registry.build(spec, 4, 3, plan, size="S", patch_size=patch, deep_supervision=True)
    cost = predict(network, (2, 4, *patch), precision="amp")

Not predicted: what the allocator loses, the context of the device, workspaces of its libraries, ``torch.compile``.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from nnunet_ext.profiling.autocast import Precision, precision_of
from nnunet_ext.profiling.cost import Cost, Memory, StageCost
from nnunet_ext.profiling.devices import Device, place, stand_in
from nnunet_ext.profiling.stages import stage_of_parameters, stages_of
from nnunet_ext.profiling.step import OPTIMISER, Training, make_optimiser, state_of
from nnunet_ext.profiling.timeline import Peak, find_peak
from nnunet_ext.profiling.tracker import ACTIVATION, COPY, OTHER, PARAMETER, Tracker

BUFFER, GRADIENT, STATE, TEMPORARY, INPUT = "buffer", "gradient", "optimiser", "optimiser's temporary", "input"


def predict(
    network: nn.Module,
    input_shape: Sequence[int],
    *,
    precision: str = "amp",
    optimiser: str = "SGD",
    accumulation: int = 1,
    device: Device = "cuda",
) -> Cost:
    """The cost of a network, by stage.

    Args:
        network: on the meta device, with deep supervision if it is trained with it; not to be used afterwards.
        input_shape: (B, C, Z, Y, X) or (B, C, Y, X), in voxels.
        precision: ``amp``, ``bf16`` or ``fp32``.
        optimiser: ``SGD``, ``Adam`` or ``AdamW``.
        accumulation: forward and backward passes per step.
        device: whose kernels are assumed, ``cuda`` or ``cpu``.
    """
    definition = _count(network, input_shape)
    training, step = follow_training(
        network, input_shape, precision=precision, optimiser=optimiser, accumulation=accumulation, device=device
    )
    forward = _follow_forward(network, (1, *input_shape[1:]), precision_of(device, precision), device)
    inference = find_peak(forward.blocks)
    parameters = stage_of_parameters(network, stages_of(network), OTHER)
    numbers = {p: p.numel() for p in parameters}
    names = dict.fromkeys(
        [*stages_of(network).values(), *training.by_stage, *inference.by_stage, *parameters.values(), *definition.macs]
    )
    return Cost(
        input_shape=tuple(input_shape),
        precision=precision,
        device=device,
        parameters=sum(numbers.values()),
        macs=definition.macs.total(),
        macs_step=step.macs.total(),
        training=memory(training),
        inference=memory(inference),
        stages=tuple(
            StageCost(
                stage=name,
                parameters=sum(numbers[p] for p, label in parameters.items() if label == name),
                macs=definition.macs[name],
                training=training.by_stage.get(name, 0),
                inference=inference.by_stage.get(name, 0),
                training_peak=training.own_peaks.get(name, 0),
                inference_peak=inference.own_peaks.get(name, 0),
            )
            for name in names
        ),
    )


def follow_training(
    network: nn.Module,
    input_shape: Sequence[int],
    *,
    precision: str = "amp",
    optimiser: str = "SGD",
    accumulation: int = 1,
    device: Device = "cuda",
) -> tuple[Peak, Tracker]:
    """The peak of a training step alone, with arguments as :func:`predict`, and all that was seen of the step."""
    network.train()
    with stand_in(device) as place_of:
        place(network, place_of)
        image = torch.empty(tuple(input_shape), device=place_of)
        chosen = make_optimiser(optimiser, network.parameters(), foreach=device == "cuda")
        training = Training(network, image, chosen, precision_of(device, precision), accumulation)
        tracker = _tracker(network)
        tracker.declare(state_of(chosen), STATE)
        tracker.declare([image], INPUT)
        with tracker:
            training.step(tracker.stage)
    for block in tracker.blocks:
        if block.stage == OPTIMISER and block.kind == ACTIVATION:
            block.kind = TEMPORARY
    tracker.declare(training.targets, INPUT)
    tracker.declare((p.grad for p in network.parameters() if p.grad is not None), GRADIENT)
    training.reset()
    return find_peak(tracker.blocks), tracker


def memory(peak: Peak) -> Memory:
    """The record of a peak."""
    kinds, highest = peak.by_kind, peak.highest
    return Memory(
        pam=highest.get(ACTIVATION, 0),
        most_copies=highest.get(COPY, 0),
        most_temporaries=highest.get(TEMPORARY, 0),
        activations=kinds.get(ACTIVATION, 0),
        copies=kinds.get(COPY, 0),
        parameters=kinds.get(PARAMETER, 0),
        buffers=kinds.get(BUFFER, 0),
        gradients=kinds.get(GRADIENT, 0),
        optimiser=kinds.get(STATE, 0),
        temporaries=kinds.get(TEMPORARY, 0),
        inputs=kinds.get(INPUT, 0),
        stage=max(peak.by_stage, key=lambda stage: peak.by_stage[stage], default=OTHER),
    )


@contextmanager
def evaluated(network: nn.Module) -> Iterator[None]:
    """As nnU-Net's predictor uses a network: evaluation mode, without gradients and deep supervision."""
    decoder: Any = getattr(network, "decoder", None)
    supervised = getattr(decoder, "deep_supervision", False)
    trained = network.training
    network.eval()
    if supervised:
        decoder.deep_supervision = False
    try:
        with torch.no_grad():
            yield
    finally:
        network.train(trained)
        if supervised:
            decoder.deep_supervision = True


def _tracker(network: nn.Module) -> Tracker:
    tracker = Tracker(network, stages_of(network))
    tracker.declare(network.parameters(), PARAMETER)
    tracker.declare(network.buffers(), BUFFER)
    return tracker


def _count(network: nn.Module, shape: Sequence[int]) -> Tracker:
    """One sample, each operator as it is defined: attention written out, convolutions as convolutions."""
    tracker = _tracker(network)
    with evaluated(network), tracker:
        network(torch.empty((1, *shape[1:]), device="meta"))
    return tracker


def _follow_forward(network: nn.Module, shape: Sequence[int], precision: Precision, device: Device) -> Tracker:
    with evaluated(network), stand_in(device) as place_of:
        place(network, place_of)
        image, tracker = torch.empty(tuple(shape), device=place_of), _tracker(network)
        tracker.declare([image], INPUT)
        with precision(), tracker:
            network(image)
    return tracker
