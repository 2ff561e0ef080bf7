"""One row of the cost table: predicted always, measured where a device is asked for. A failure is a row as well."""

import gc
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from typing import Any

import torch
from joblib import cpu_count
from torch import Tensor, nn

from benchmarks.costs.models import Model
from benchmarks.costs.usage import free_memory, resident_peak
from nnunet_ext.profiling.advice import remedies
from nnunet_ext.profiling.cost import GIB, MIB, RESERVE, Cost
from nnunet_ext.profiling.devices import Device
from nnunet_ext.profiling.measure import (
    Latency,
    Measured,
    measure_inference,
    measure_latency,
    measure_training,
    prepare,
)
from nnunet_ext.profiling.predict import evaluated, predict

CARDS = (4, 6, 8, 11, 16, 24)  # GB of graphics cards
OK = "ok"
PLAIN = (RuntimeError, ValueError, MemoryError)  # what these say needs no name of the error before it
LONGEST = 210  # letters of a reason
MANY = 8  # models from which on a second process is worth its start
PROCESSES = 2  # each holds torch, which takes about 700 MiB


@dataclass(frozen=True)
class Request:
    """How a row is made.

    Attributes:
        device: ``meta`` (predicted for CUDA), ``cpu`` or ``cuda`` (measured there).
        precision: ``amp``, ``bf16`` or ``fp32``.
        repeats: measurements.
        advise: whether to say what would lower the peak.
        accumulation: forward and backward passes per predicted step.
    """

    device: str = "meta"
    precision: str = "amp"
    repeats: int = 5
    advise: bool = False
    accumulation: int = 1

    @property
    def kernels(self) -> Device:
        """The device for which costs are predicted."""
        return "cpu" if self.device == "cpu" else "cuda"


@dataclass(frozen=True)
class Row:
    """A model with what is known of its cost, and in ``status`` the reason where something is not.

    Attributes:
        model, request: what the row is of.
        status: ``ok``, or the first failure.
        cost: predicted.
        training, inference, latency: measured; the last two at batch 1, as nnU-Net predicts.
        remedies: what would lower the peak of training -> bytes of the step then.
        process: the process that made the row, and its peak memory in bytes until then.
    """

    model: Model
    request: Request
    status: str = OK
    cost: Cost | None = None
    training: Measured | None = None
    inference: Measured | None = None
    latency: Latency | None = None
    remedies: dict[str, int] | None = None
    process: tuple[int, int] | None = None

    @property
    def pam_train(self) -> float | None:
        """Bytes of the PAM in training: measured, or else predicted."""
        if self.request.device != "meta":
            return self.training.activations[0] if self.training else None
        return self.cost.training.pam if self.cost else None

    @property
    def pam_inference(self) -> float | None:
        """The same of a forward pass of one sample."""
        if self.request.device != "meta":
            return self.inference.activations[0] if self.inference else None
        return self.cost.inference.pam if self.cost else None

    @property
    def total_train(self) -> float | None:
        """Bytes of all tensors of a training step."""
        if self.request.device != "meta":
            return self.training.total[0] if self.training else None
        return self.cost.training.total if self.cost else None

    @property
    def card(self) -> float | None:
        """Bytes that a card must have for a training step: all tensors, and what holds none."""
        return None if self.total_train is None else self.total_train + RESERVE

    @property
    def fits(self) -> list[int]:
        """The cards (GB) in which a training step fits."""
        needed = self.card
        return [] if needed is None else [card for card in CARDS if needed <= card * GIB]

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
            "copies_mib": _mib(cost.training.most_copies) if cost else None,
            "temporaries_mib": _mib(cost.training.most_temporaries) if cost else None,
            "total_train_mib": _mib(self.total_train),
            "card_gb": None if self.card is None else self.card / GIB,
            "pam_sd_mib": _mib(self.training.activations[1]) if self.training else None,
            "peak_stage": cost.training.stage if cost else None,
            "device": self.request.device,
            "status": self.status,
        }


def rows(models: Sequence[Model], request: Request) -> Iterator[Row]:
    """A row for each model, in order. Predictions of many models are shared with a second process."""
    make = partial(make_row, request=request)
    if request.device != "meta" or len(models) < MANY or cpu_count() < PROCESSES:
        yield from map(make, models)
        return
    with ProcessPoolExecutor(PROCESSES - 1, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        futures = [pool.submit(make, model) for model in models]
        yield from _from_both_ends(make, [Row(model, request) for model in models], futures)


def _from_both_ends(
    make: Callable[[Model], Row], empty: Sequence[Row], futures: Sequence[Future[Row]]
) -> Iterator[Row]:
    """The other process makes rows from the first on, this one from the last on: waiting it would need its memory too.

    Args:
        make: makes a row.
        empty: what is known of each row before it is made.
        futures: what the other process has to do, in the same order.
    """
    own: dict[int, Row] = {}
    given = 0
    for number in reversed(range(len(futures))):
        if not futures[number].cancel():  # the other process has come here: what is left is its own
            break
        own[number] = make(empty[number].model)
        while given < number and futures[given].done():
            yield _received(futures[given], empty[given])
            given += 1
    for number in range(given, len(futures)):
        yield own[number] if number in own else _received(futures[number], empty[number])


def _received(future: Future[Row], empty: Row) -> Row:
    try:
        return future.result()
    except BrokenProcessPool as error:  # the system ended a process, for want of memory as a rule; what is made stays
        return replace(empty, status=_reason(error))


def make_row(model: Model, request: Request) -> Row:
    """Predicts and measures one model."""
    row = _attempt(Row(model, request), _predicted)
    if row.cost is not None:
        further = (_trained, _inferred, _timed) if request.device != "meta" else (_advised,) if request.advise else ()
        for step in further:
            row = _attempt(row, step)
    return replace(row, process=resident_peak())


def timed_row(model: Model, request: Request) -> Row:
    """Times one model."""
    return _attempt(Row(model, request), _timed)


def latency_record(row: Row) -> dict[str, Any]:
    """The row of ``latency.csv``, milliseconds."""
    record = row.record()
    kept = ("registry_name", "trainer", "size", "input_shape", "batch", "precision", "device")
    return {
        **{name: record[name] for name in kept},
        **milliseconds(row.latency),
        "repeats": row.request.repeats,
        "status": row.status,
    }


def milliseconds(latency: Latency | None) -> dict[str, float | None]:
    """The columns of a latency."""
    seconds = {"min": latency.minimum, "median": latency.median, "p90": latency.p90} if latency else {}
    return {f"{name}_ms": 1e3 * seconds[name] if latency else None for name in ("min", "median", "p90")}


def _attempt(row: Row, step: Callable[[Row], Row]) -> Row:
    """The row after one more step; whatever ends the step is the row's reason, and the table goes on."""
    try:
        return step(row)
    except Exception as error:  # any: an assertion in one network must not lose the others' rows
        return row if row.status != OK else replace(row, status=_reason(error))


def _predicted(row: Row) -> Row:
    model, request = row.model, row.request
    cost = predict(
        _on_meta(model),
        model.input_shape,
        precision=request.precision,
        optimiser=model.optimiser,
        accumulation=request.accumulation,
        device=request.kernels,
    )
    return replace(row, cost=cost)


def _advised(row: Row) -> Row:
    assert row.cost is not None
    build, accumulation = partial(_on_meta, row.model), row.request.accumulation
    return replace(row, remedies=remedies(build, row.cost, row.model.optimiser, accumulation))


def _trained(row: Row) -> Row:
    assert row.cost is not None
    network, image = _on_device(row, row.model.input_shape, row.cost.training.total)
    step = prepare(network, image, precision=row.request.precision, optimiser=row.model.optimiser)
    return replace(row, training=measure_training(step, row.request.repeats))


def _inferred(row: Row) -> Row:
    assert row.cost is not None
    network, image = _on_device(row, (1, *row.model.input_shape[1:]), row.cost.inference.total)
    with evaluated(network):
        return replace(row, inference=measure_inference(network, image, row.request.precision, row.request.repeats))


def _timed(row: Row) -> Row:
    needed = row.cost.inference.total if row.cost else 0
    network, image = _on_device(row, (1, *row.model.input_shape[1:]), needed)
    with evaluated(network):
        return replace(row, latency=measure_latency(network, image, row.request.precision, row.request.repeats))


def _on_meta(model: Model) -> nn.Module:
    with torch.device("meta"):
        return model.build()


def _on_device(row: Row, shape: Sequence[int], needed: int) -> tuple[nn.Module, Tensor]:
    """The network and an image.

    Raises:
        MemoryError: the machine has less memory than is needed (bytes), and would end the process.
    """
    gc.collect()  # a network that failed may be in a cycle with the traceback
    if row.request.device == "cuda":
        torch.cuda.empty_cache()  # what an earlier network left would count as reserved
    elif (free := free_memory()) is not None and free < needed:
        raise MemoryError(f"needs {needed / GIB:.1f} GiB, {free / GIB:.1f} are free")
    return row.model.build().to(row.request.device), torch.randn(tuple(shape), device=row.request.device)


def _reason(error: BaseException) -> str:
    """One line, so that it stays in its cell."""
    name = "" if isinstance(error, PLAIN) else f"{type(error).__name__}: "
    text = " ".join(str(error).split()).partition(". ")[0]
    return f"failed: {name}{text or type(error).__name__}"[:LONGEST]


def _mib(nbytes: float | None) -> float | None:
    return None if nbytes is None else nbytes / MIB
