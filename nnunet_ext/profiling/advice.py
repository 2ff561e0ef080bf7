"""What would lower the peak of a training step, each remedy with the peak that it leaves."""

import sys
from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import CheckpointError, checkpoint

from nnunet_ext.profiling.autocast import precision_of
from nnunet_ext.profiling.cost import Cost
from nnunet_ext.profiling.predict import follow_training, memory
from nnunet_ext.profiling.stages import stages_of

CANDIDATES = 3  # the stage that holds the peak is often the last one, which recomputation does not help

NO_REMEDY = sys.maxsize


def remedies(
    build: Callable[[], nn.Module], cost: Cost, optimiser: str = "SGD", accumulation: int = 1
) -> dict[str, int]:
    """Remedy -> bytes of the whole step under it, for those that lower the peak.

    Args:
        build: makes the network on the meta device.
        cost: its prediction, for CUDA.
        optimiser: of the training step.
        accumulation: forward and backward passes of the training step.
    """
    total = partial(_total, build, precision=cost.precision, optimiser=optimiser, accumulation=accumulation)
    batch, *sample = cost.input_shape
    stages = set(stages_of(build()).values())
    largest = sorted((s for s in cost.stages if s.stage in stages), key=lambda s: -s.training)[:CANDIDATES]
    single = {f"recompute {s.stage}": total(cost.input_shape, recomputed={s.stage}) for s in largest}
    found = dict(sorted(single.items(), key=lambda item: item[1])[:1])
    found["recompute every stage"] = total(cost.input_shape, recomputed=stages)
    if batch > 1:
        found[f"batch {batch // 2}"] = total((batch // 2, *sample))
    return {remedy: lower for remedy, lower in found.items() if lower < cost.training.total}


def _total(
    build: Callable[[], nn.Module],
    shape: Sequence[int],
    *,
    precision: str,
    optimiser: str,
    accumulation: int,
    recomputed: Collection[str] = (),
) -> int:
    network = build()
    for module, label in stages_of(network).items():
        if label in recomputed:
            _recompute(module, precision)
    try:
        peak, _ = follow_training(network, shape, precision=precision, optimiser=optimiser, accumulation=accumulation)
    except CheckpointError:  # autograd functions that read what they saved more than once cannot be recomputed
        return NO_REMEDY
    return memory(peak).total


def _recompute(module: nn.Module, precision: str) -> None:
    """Makes a module keep its input only; its forward pass runs again, in the same precision, for the gradients."""
    forward = module.forward

    def contexts() -> tuple[Any, Any]:
        return nullcontext(), precision_of("cuda", precision)()

    def kept_small(*args: Any) -> Any:
        return checkpoint(forward, *args, use_reentrant=False, context_fn=contexts, preserve_rng_state=False)

    module.forward = kept_small
