"""Measures what a network costs on the device itself, independently of the prediction.

* CUDA: the allocator's own peaks, allocated and reserved.
* CPU: the allocator's events as torch's profiler records them. What oneDNN takes and gives back within one
  convolution is no tensor; it is shown apart. On CUDA the allocator's peaks contain such workspaces.

Nothing of :mod:`.tracker` is used; only the step that is run is the same.
"""

import json
import tempfile
import time
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.backends import cudnn
from torch.profiler import ProfilerActivity, profile, record_function

from nnunet_ext.profiling.autocast import device_precision
from nnunet_ext.profiling.step import OPTIMISER, Training, make_optimiser, state_of

WARM_UP: Mapping[str, int] = {"cpu": 2, "cuda": 10}
"""Passes before the first that counts: on CUDA the libraries choose their algorithms and the clocks rise meanwhile."""
PERCENTILE = 90
WORKSPACE_OPERATORS = frozenset(
    {"aten::convolution", "aten::convolution_backward", "aten::_fft_r2c", "aten::_fft_c2r", "aten::_fft_c2c"}
)


@dataclass(frozen=True)
class Peaks:
    """Peaks of one run, in bytes.

    Attributes:
        activations: the PAM, defined in :mod:`.cost`; on CUDA with the half-precision copies of weights, which its
            allocator cannot tell apart.
        total: of all live tensors.
        reserved: what the allocator took from the device; 0 on the CPU, whose allocator keeps nothing.
        workspace: by how much workspaces of libraries raise the peak; 0 on CUDA, where they cannot be told apart.
    """

    activations: int
    total: int
    reserved: int = 0
    workspace: int = 0


@dataclass(frozen=True)
class Measured:
    """Repeated measurements: mean and standard deviation (of the sample) in bytes.

    Attributes:
        activations, total, reserved, workspace: (mean, standard deviation), see :class:`Peaks`.
        repeats: how often.
    """

    activations: tuple[float, float]
    total: tuple[float, float]
    reserved: tuple[float, float]
    workspace: tuple[float, float]
    repeats: int


@dataclass(frozen=True)
class Latency:
    """Seconds of one forward pass at batch 1."""

    minimum: float
    median: float
    p90: float
    repeats: int


def prepare(network: nn.Module, image: Tensor, *, precision: str = "fp32", optimiser: str = "SGD") -> Training:
    """A training step of a network that lies on the device of the image (B, C, Z, Y, X)."""
    network.train()
    chosen = make_optimiser(optimiser, network.parameters(), foreach=image.is_cuda)
    return Training(network, image, chosen, device_precision(image.device.type, precision))


def measure_training(training: Training, repeats: int) -> Measured:
    """The peaks of training steps, after warm-up steps."""
    with as_nnunet_runs():
        for _ in range(WARM_UP[training.image.device.type]):
            training.step()
            training.reset()
        resident = [training.image, *training.targets, *state_of(training.optimiser)]
        resident += [*training.network.parameters(), *training.network.buffers()]
        run = _training_on_cuda if training.image.is_cuda else _training_on_cpu
        return _summary([run(training, _nbytes(resident)) for _ in range(repeats)])


def measure_inference(network: nn.Module, image: Tensor, precision: str, repeats: int) -> Measured:
    """The peaks of forward passes in evaluation mode, after warm-up."""
    network.eval()
    resident = _nbytes([image, *network.parameters(), *network.buffers()])

    @torch.no_grad()
    def forward() -> None:
        with device_precision(image.device.type, precision)():
            network(image)

    with as_nnunet_runs():
        for _ in range(WARM_UP[image.device.type]):
            forward()
        return _summary([_forward_peaks(forward, resident, image.device) for _ in range(repeats)])


def measure_latency(network: nn.Module, image: Tensor, precision: str, repeats: int) -> Latency:
    """Times forward passes of one sample (1, C, Z, Y, X) in evaluation mode, after warm-up."""
    network.eval()
    synchronize: Callable[[], None] = torch.cuda.synchronize if image.is_cuda else (lambda: None)
    seconds = []
    warm_up = WARM_UP[image.device.type]
    with torch.no_grad(), device_precision(image.device.type, precision)(), as_nnunet_runs():
        for _ in range(warm_up + repeats):
            synchronize()
            start = time.perf_counter()
            network(image)
            synchronize()
            seconds.append(time.perf_counter() - start)
    timed = np.array(seconds[warm_up:])
    return Latency(float(timed.min()), float(np.median(timed)), float(np.percentile(timed, PERCENTILE)), repeats)


@contextmanager
def as_nnunet_runs() -> Iterator[None]:
    """Within, cuDNN tries its algorithms and takes the fastest, as nnU-Net asks in training and in prediction."""
    before = cudnn.benchmark, cudnn.deterministic
    cudnn.benchmark, cudnn.deterministic = True, False
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.deterministic = before


class _Watch:
    """Follows a step on CUDA from one gradient to the next; the allocator's counter is exact on the host.

    Attributes:
        activations: most bytes beyond the gradients before the optimiser's step.
        total: most bytes.
        reserved: most bytes that the allocator had taken.
    """

    def __init__(self, network: nn.Module) -> None:
        self.activations = self.total = self.reserved = self._gradients = 0
        self._optimising = False
        self._before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        self._handles = [p.register_post_accumulate_grad_hook(self._accumulated) for p in network.parameters()]

    @contextmanager
    def label(self, name: str) -> Iterator[None]:
        """What the step says of its parts."""
        if name == OPTIMISER:
            self._look()
            self._optimising = True
        yield

    def end(self) -> None:
        """Notes what came last."""
        self._look()
        for handle in self._handles:
            handle.remove()

    def _look(self) -> None:
        """Notes the peak since the last look, during which the gradients were the same."""
        peak = torch.cuda.max_memory_allocated() - self._before
        self.total = max(self.total, peak)
        self.reserved = max(self.reserved, torch.cuda.max_memory_reserved())
        if not self._optimising:
            self.activations = max(self.activations, peak - self._gradients)
        torch.cuda.reset_peak_memory_stats()

    def _accumulated(self, parameter: Tensor) -> None:
        self._look()
        assert parameter.grad is not None
        self._gradients += parameter.grad.untyped_storage().nbytes()


def _training_on_cuda(training: Training, resident: int) -> Peaks:
    watch = _Watch(training.network)
    training.step(watch.label)
    watch.end()
    training.reset()
    return Peaks(watch.activations, watch.total + resident, watch.reserved)


def _training_on_cpu(training: Training, resident: int) -> Peaks:
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        training.step(record_function)
    kept = {p.grad.untyped_storage().data_ptr() for p in training.network.parameters() if p.grad is not None}
    training.reset()
    return _peaks(profiler, resident, kept)


def _forward_peaks(forward: Callable[[], None], resident: int, device: torch.device) -> Peaks:
    if device.type == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        forward()
        peak = torch.cuda.max_memory_allocated() - before
        return Peaks(peak, peak + resident, torch.cuda.max_memory_reserved())
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        forward()
    return _peaks(profiler, resident, set())


def _peaks(profiler: profile, resident: int, gradients: Collection[int]) -> Peaks:
    """The peak of what a profiler saw; ``gradients``: addresses that hold gradients at the end."""
    trace = _trace(profiler)
    events = _allocations(trace)
    scratch = _within_one(events, _spans(trace, WORKSPACE_OPERATORS))
    tensors = [e for i, e in enumerate(events) if i not in scratch]
    level = np.cumsum([e.nbytes for e in tensors])
    last = {e.address: i for i, e in enumerate(tensors) if e.nbytes > 0 and e.address in gradients}
    of_gradients = np.cumsum([e.nbytes * (last.get(e.address) == i) for i, e in enumerate(tensors)])
    step = _spans(trace, {OPTIMISER})
    before = [e.time < step[0][0] for e in tensors] if step else slice(None)
    with_scratch, peak = int(np.cumsum([e.nbytes for e in events]).max()), int(level.max())
    return Peaks(int((level - of_gradients)[before].max()), peak + resident, workspace=with_scratch - peak)


class _Event(NamedTuple):
    """Memory taken, or given back if ``nbytes`` is negative; ``time`` in microseconds."""

    time: float
    address: int
    nbytes: int


def _trace(profiler: profile) -> list[dict[str, Any]]:
    """The profiler's events, through its documented file format."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    return events


def _allocations(trace: Sequence[Mapping[str, Any]]) -> list[_Event]:
    found = [_Event(e["ts"], e["args"]["Addr"], e["args"]["Bytes"]) for e in trace if e.get("name") == "[memory]"]
    return sorted(found, key=lambda event: event.time)


def _spans(trace: Sequence[Mapping[str, Any]], names: Collection[str]) -> list[tuple[float, float]]:
    """Start and end of each operator of these names that is in no other of them."""
    spans: list[tuple[float, float]] = []
    for start, end in sorted((e["ts"], e["ts"] + e["dur"]) for e in trace if e.get("name") in names):
        if not spans or start > spans[-1][1]:
            spans.append((start, end))
    return spans


def _within_one(events: Sequence[_Event], spans: Sequence[tuple[float, float]]) -> set[int]:
    """Indices of the events of memory that was taken and given back within one span."""
    taken: dict[int, int] = {}
    found: set[int] = set()
    for i, event in enumerate(events):
        if event.nbytes > 0:
            taken[event.address] = i
        elif (start := taken.pop(event.address, None)) is not None:
            span = bisect_right(spans, events[start].time, key=lambda s: s[0]) - 1
            if span >= 0 and event.time <= spans[span][1]:
                found |= {start, i}
    return found


def _nbytes(tensors: Sequence[Tensor]) -> int:
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


def _summary(runs: Sequence[Peaks]) -> Measured:
    def spread(values: Sequence[int]) -> tuple[float, float]:
        return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0

    return Measured(
        activations=spread([r.activations for r in runs]),
        total=spread([r.total for r in runs]),
        reserved=spread([r.reserved for r in runs]),
        workspace=spread([r.workspace for r in runs]),
        repeats=len(runs),
    )
