"""One pass over a step that counts multiply-accumulates and follows every tensor's memory from birth to death.

Nothing is computed if the tensors are on the meta device: a training step of a 3D U-Net takes a fraction of a second.
"""

import weakref
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nnunet_ext.profiling.macs import macs

ACTIVATION, PARAMETER, COPY = "activation", "parameter", "copy of a weight"
OTHER = "other"
aten = torch.ops.aten
ACCUMULATE = "AccumulateGrad"  # autograd's node that adds to a parameter's gradient: it belongs to no forward operator


@dataclass(slots=True)
class Block:
    """Memory of one tensor storage.

    Attributes:
        nbytes: its size in bytes.
        stage: stage of the network in which it was made; None until the next stage begins, see :class:`Tracker`.
        kind: ``activation``, a copy of a weight in another precision, or what else it was declared to be.
        born, died: time in number of events; ``died`` is None as long as it lives.
    """

    nbytes: int
    stage: str | None
    kind: str
    born: int
    died: int | None = None


class Tracker(TorchDispatchMode):
    """Records the storages and the MACs of everything that runs within ``with tracker:``, by stage of the network.

    What runs between two stages belongs to the one that begins next: concatenations are made for what follows. What
    runs after the last one belongs to it. In the backward pass a tensor belongs to the stage whose forward operator is
    being differentiated: autograd numbers its nodes as they are made, so the numbers tell the stage.

    Args:
        network: the network; what runs outside its forward pass and outside :meth:`stage` is ``other``.
        stages: label of each of its modules that is a stage; several modules may share one.
    """

    def __init__(self, network: nn.Module, stages: Mapping[nn.Module, str]) -> None:
        super().__init__()
        self.blocks: list[Block] = []
        self.macs: Counter[str] = Counter()
        self._network, self._stages = network, stages
        self._between: str | None = OTHER  # label of what runs in no stage; None: that of the next one
        self._living: dict[int, tuple[weakref.ref, Block]] = {}
        self._differentiated: str = OTHER
        self._clock = 0
        self._entered: list[str] = []
        self._marks: list[tuple[int, str | None]] = []  # autograd's number from which on a stage holds
        self._pending: list[Block] = []
        self._pending_macs = 0
        self._handles: list[Any] = []

    def __enter__(self) -> "Tracker":
        self._handles.append(self._network.register_forward_pre_hook(lambda *_: self._open()))
        for module, label in self._stages.items():
            self._handles.append(module.register_forward_pre_hook(lambda *_, label=label: self._enter(label)))
            self._handles.append(module.register_forward_hook(lambda *_: self._leave()))
        self._handles.append(self._network.register_forward_hook(lambda *_: self._close()))
        super().__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        super().__exit__(exc_type, exc_value, traceback)
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Runs one operator and records what it made."""
        # modes of torch functions would hear of each function that a kernel uses, and of each question about a tensor
        with torch._C.DisableTorchFunction():
            out = func(*args, **(kwargs or {}))
            self._saw(func, args, out, macs(func, args, kwargs or {}, out))
        return out

    def _saw(self, operator: Any, args: tuple[Any, ...], out: Any, count: int) -> None:
        stage = self._stage()
        kind = COPY if operator is aten._to_copy.default and self._is_weight(args[0]) else ACTIVATION
        if stage is None:
            self._pending_macs += count
        else:
            self.macs[stage] += count
        for tensor in (out,) if isinstance(out, Tensor) else tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._see(tensor, stage, kind)

    def declare(self, tensors: Iterable[Tensor], kind: str) -> None:
        """Says what tensors are that are no activations: known ones change their kind, new ones are taken in."""
        with torch._C.DisableTorchFunction():
            for tensor in tensors:
                self._see(tensor, OTHER, kind).kind = kind

    @contextmanager
    def stage(self, label: str) -> Iterator[None]:
        """What runs within is the stage ``label``, if no module that is a stage says otherwise."""
        self._enter(label)
        yield
        self._leave()

    def _is_weight(self, tensor: Tensor) -> bool:
        known = self._living.get(tensor.untyped_storage()._cdata)
        return known is not None and known[1].kind == PARAMETER

    def _see(self, tensor: Tensor, stage: str | None, kind: str) -> Block:
        storage = tensor.untyped_storage()
        known = self._living.get(storage._cdata)
        if known is not None:
            return known[1]
        self._clock += 1
        block = Block(storage.nbytes(), stage, kind, self._clock)
        key = storage._cdata
        self._living[key] = weakref.ref(storage, lambda _: self._bury(key)), block
        self.blocks.append(block)
        if stage is None:
            self._pending.append(block)
        return block

    def _bury(self, key: int) -> None:
        self._clock += 1
        self._living.pop(key)[1].died = self._clock

    def _stage(self) -> str | None:
        """What is running, None where only the next stage will tell."""
        node = torch._C._current_autograd_node()
        if node is None or self._entered:  # in the backward pass, stages are entered to be computed again
            return self._entered[-1] if self._entered else self._between
        if not node.name().endswith(ACCUMULATE):
            position = bisect_right(self._marks, node._sequence_nr(), key=lambda mark: mark[0])
            label = self._marks[position - 1][1] if position else None
            # nodes that a backward pass makes belong to what is being differentiated
            self._differentiated = self._differentiated if label is None or label == OTHER else label
        return self._differentiated

    def _open(self) -> None:
        self._between = None
        self._mark(None)

    def _close(self) -> None:
        self._settle(next((label for _, label in reversed(self._marks) if label is not None), OTHER))
        self._between = OTHER
        self._mark(OTHER)

    def _enter(self, label: str) -> None:
        if not self._entered:
            self._settle(label)
        self._entered.append(label)
        self._mark(label)

    def _leave(self) -> None:
        self._entered.pop()
        self._mark(self._entered[-1] if self._entered else self._between)

    def _mark(self, label: str | None) -> None:
        self._marks.append((torch._C._autograd._get_sequence_nr(), label))

    def _settle(self, label: str) -> None:
        """Gives what is not yet any stage's to ``label``."""
        for block in self._pending:
            block.stage = label
        self._pending.clear()
        self.macs[label] += self._pending_macs
        self._pending_macs = 0
        if self._marks and self._marks[-1][1] is None:
            self._marks[-1] = self._marks[-1][0], label
