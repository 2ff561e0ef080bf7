"""One row of the cost table: predicted always, measured where a device is asked for. A failure is a row as well."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any

import torch

from benchmarks.costs.models import Model
from nnunet_ext.profiling.advice import remedies
from nnunet_ext.profiling.cost import MIB, Cost
from nnunet_ext.profiling.devices import Device
from nnunet_ext.profiling.measure import Measured, measure_inference, measure_latency, measure_training, prepare
from nnunet_ext.profiling.predict import evaluated, predict

GIB = 2**30
CARDS = (8, 11, 24)  # GB of graphics cards
SHARE = 0.9  # of a card for tensors; the rest is CUDA's context, workspaces and what the allocator loses
OK = "ok"
FAILURES = (RuntimeError, ValueError, MemoryError)  # an exhausted GPU is a RuntimeError
MANY = 8  # models from which on a second process is worth its start


@dataclass(frozen=True)
class Request:
    """How a row is made.

    Attributes:
        device: ``meta`` (predicted for CUDA), ``cpu`` or ``cuda`` (measured there).
        precision: ``amp``, ``bf16`` or ``fp32``.
        repeats: measurements.
        advise: whether to say what would lower the peak.
    """

    device: str = "meta"
    precision: str = "amp"
    repeats: int = 5
    advise: bool = False

    @property
    def kernels(self) -> Device:
        """The device for which costs are predicted."""
        return "cpu" if self.device == "cpu" else "cuda"


@dataclass(frozen=True)
class Row:
    """A model with its cost, or with the reason why it has none."""

    model: Model
    request: Request
    status: str = OK
    cost: Cost | None = None
    training: Measured | None = None
    inference: Measured | None = None
    remedies: dict[str, int] | None = None

    @property
    def pam_train(self) -> float | None:
        """Bytes of the PAM in training: measured, or else predicted."""
        if self.request.device != "meta":
            return self.training.activations[0] if self.training else None
        return self.cost.training.activations if self.cost else None

    @property
    def pam_inference(self) -> float | None:
        """The same of a forward pass."""
        if self.request.device != "meta":
            return self.inference.activations[0] if self.inference else None
        return self.cost.inference.activations if self.cost else None

    @property
    def total_train(self) -> float | None:
        """Bytes of all tensors of a training step."""
        if self.request.device != "meta":
            return self.training.total[0] if self.training else None
        return self.cost.training.total if self.cost else None

    @property
    def fits(self) -> list[int]:
        """The cards (GB) in which a training step fits."""
        total = self.total_train
        return [] if total is None else [card for card in CARDS if total <= SHARE * card * GIB]

    def record(self) -> dict[str, Any]:
        """The row of ``pam.csv``, in its order; memory in MiB, None where unknown."""
        cost, model = self.cost, self.model
        return {
            "registry_name": model.name,
            "trainer": model.trainer,
            "size": model.size,
            "input_shape": "x".join(map(str, model.input_shape[1:])),
            "batch": model.input_shape[0],
            "precision": self.request.precision,
            "parameters": cost.parameters if cost else None,
            "macs": cost.macs if cost else None,
            "flops": cost.flops if cost else None,
            "pam_train_mib": _mib(self.pam_train),
            "pam_inference_mib": _mib(self.pam_inference),
            "total_train_mib": _mib(self.total_train),
            "pam_sd_mib": _mib(self.training.activations[1]) if self.training else None,
            "peak_stage": cost.training.stage if cost else None,
            "device": self.request.device,
            "status": self.status,
        }


def rows(models: Sequence[Model], request: Request) -> Iterator[Row]:
    """A row for each model, in order. Predictions of many models share the machine's cores."""
    make = partial(make_row, request=request)
    if request.device != "meta" or len(models) < MANY:
        yield from map(make, models)
        return
    with ProcessPoolExecutor(min(2, os.cpu_count() or 1), get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        yield from pool.map(make, models)


def make_row(model: Model, request: Request) -> Row:
    """Predicts and measures one model."""
    cost = None
    try:
        cost = predict_model(model, request)
        if request.device != "meta":
            return _measured(model, request, cost)
        advice = remedies(partial(_on_meta, model), cost, model.optimiser) if request.advise else None
    except FAILURES as error:
        return Row(model, request, _reason(error), cost)
    return Row(model, request, cost=cost, remedies=advice)


def latency_row(model: Model, request: Request) -> dict[str, Any]:
    """The row of ``latency.csv``, milliseconds."""
    status, seconds = OK, None
    try:
        network = model.build().to(request.device)
        with evaluated(network):
            image = torch.randn(model.input_shape, device=request.device)
            seconds = measure_latency(network, image, request.precision, request.repeats)
    except FAILURES as error:
        status = _reason(error)
    record = Row(model, request, status).record()
    kept = ("registry_name", "trainer", "size", "input_shape", "batch", "precision", "device")
    return {
        **{name: record[name] for name in kept},
        "min_ms": 1e3 * seconds.minimum if seconds else None,
        "median_ms": 1e3 * seconds.median if seconds else None,
        "p90_ms": 1e3 * seconds.p90 if seconds else None,
        "repeats": request.repeats,
        "status": status,
    }


def predict_model(model: Model, request: Request) -> Cost:
    """The predicted cost."""
    return predict(
        _on_meta(model),
        model.input_shape,
        precision=request.precision,
        optimiser=model.optimiser,
        device=request.kernels,
    )


def _on_meta(model: Model) -> torch.nn.Module:
    with torch.device("meta"):
        return model.build()


def _measured(model: Model, request: Request, cost: Cost) -> Row:
    if request.device == "cuda":
        torch.cuda.empty_cache()  # what an earlier network left would count as reserved
    network = model.build().to(request.device)
    image = torch.randn(model.input_shape, device=request.device)
    training = measure_training(
        prepare(network, image, precision=request.precision, optimiser=model.optimiser), request.repeats
    )
    with evaluated(network):
        inference = measure_inference(network, image, request.precision, request.repeats)
    return Row(model, request, cost=cost, training=training, inference=inference)


def _reason(error: BaseException) -> str:
    """One line, so that it stays in its cell."""
    text = " ".join(str(error).split()) or type(error).__name__
    return f"failed: {text.partition('. ')[0][:200]}"


def _mib(nbytes: float | None) -> float | None:
    return None if nbytes is None else nbytes / MIB
