"""Runs operators on meta tensors without running the same call twice.

Most of the time of a prediction would be torch's: its meta kernels are written in Python, that of a batch norm with a
hundred lines, and an optimiser runs one a parameter. What they give depends on nothing but the shapes, strides and
types of their arguments, and networks repeat themselves: in their blocks, branches and decoders, in both passes, from
network to network. So a result is kept as a recipe, under the operator and what there is to know of its arguments, and
is made again from that.
"""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nnunet_ext.profiling.macs import macs

aten = torch.ops.aten
LIMIT = 20_000  # recipes, about 1 KiB each
META = torch.device("meta")
PLAIN = frozenset({Tensor, nn.Parameter})  # of other tensors, such as fake ones, the kernels are not torch's own
TWINS = {aten._unsafe_view.default: aten.view.default}  # the same below autograd, and in C++

Arguments = tuple[Any, ...]


class Unknown(Exception):  # noqa: N818 - no error: it never leaves this module
    """Nothing can be kept of this call."""


@dataclass(frozen=True, slots=True)
class Fresh:
    """A tensor in memory of its own.

    Attributes:
        shape, stride, dtype: of the tensor.
        room: elements of the memory, if it has more than the tensor needs.
    """

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    room: int | None = None

    def make(self) -> Tensor:
        """Another such tensor."""
        if self.room is None:
            return torch.empty_strided(self.shape, self.stride, dtype=self.dtype, device=META)
        return torch.empty(self.room, dtype=self.dtype, device=META).as_strided(self.shape, self.stride)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a call gives.

    Attributes:
        parts: its outputs: fresh tensors, positions of arguments that are given back as they are, or None.
        container: the type of what they come in; None for a single one.
        macs: of the call.
    """

    parts: tuple[Fresh | int | None, ...]
    container: type | None
    macs: int

    def make(self, args: Arguments) -> Any:
        """The outputs, for the arguments of the present call."""
        made = [p.make() if isinstance(p, Fresh) else None if p is None else args[p] for p in self.parts]
        return made[0] if self.container is None else self.container(made)


class Kernels:
    """Meta kernels that remember what they gave.

    Attributes:
        remembers: whether they do; without, every call runs torch's kernel.
    """

    def __init__(self) -> None:
        self.remembers = True
        self._recipes: dict[Hashable, Recipe | None] = {}

    def run(self, operator: Any, args: Arguments, kwargs: Mapping[str, Any]) -> tuple[Any, int]:
        """What the operator gives, and its MACs."""
        if not self.remembers:
            return _call(operator, args, kwargs)
        operator = TWINS.get(operator, operator)
        if _gives_view(operator):  # is as quickly made as its key
            return _call(operator, args, kwargs)
        if _treats_rows(operator) and not any(isinstance(a, Tensor) for a in args):
            return self._run_rows(operator, args, kwargs)
        return self._run(operator, args, kwargs)

    def _run(self, operator: Any, args: Arguments, kwargs: Mapping[str, Any]) -> tuple[Any, int]:
        try:
            key = _key(operator, args, kwargs)
            recipe = self._recipes.get(key)
        except (Unknown, TypeError):  # the latter for a value without hash
            return _call(operator, args, kwargs)
        if recipe is not None:
            return recipe.make(args), recipe.macs
        out, count = _call(operator, args, kwargs)
        if key not in self._recipes and key == _key(operator, args, kwargs):  # a changed argument would not be again
            self._keep(key, _recipe(out, count, args, kwargs))
        return out, count

    def _run_rows(self, operator: Any, args: Arguments, kwargs: Mapping[str, Any]) -> tuple[Any, int]:
        """Operators on lists treat each row of the lists alone, so a row is what is remembered."""
        try:
            rows = [signature(row) for row in zip(*filter(_is_list, args), strict=True)]
            first = {row: number for number, row in reversed(list(enumerate(rows)))}
            made = {row: self._run_row(operator, args, kwargs, number) for row, number in first.items()}
        except Unknown:
            return _call(operator, args, kwargs)
        outs = [fresh and fresh.make() for fresh in map(made.__getitem__, rows)]
        return (None if None in made.values() else outs), 0  # torch counts nothing of these operators

    def _run_row(self, operator: Any, args: Arguments, kwargs: Mapping[str, Any], number: int) -> Fresh | None:
        """What the operator gives for one row: None if it works in place."""
        one = tuple([arg[number]] if _is_list(arg) else arg for arg in args)
        out, _ = self._run(operator, one, kwargs)
        return None if out is None else _fresh(out[0])

    def _keep(self, key: Hashable, recipe: Recipe | None) -> None:
        if len(self._recipes) >= LIMIT:
            self._recipes.clear()
        self._recipes[key] = recipe


KERNELS = Kernels()


class Replayed(TorchDispatchMode):
    """Within it :data:`KERNELS` run the operators."""

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Runs one operator."""
        # modes of torch functions would hear of each function that a kernel uses, and of each question about a tensor
        with torch._C.DisableTorchFunction():
            out, count = KERNELS.run(func, args, kwargs or {})
            self.saw(func, args, out, count)
        return out

    def saw(self, operator: Any, args: Arguments, out: Any, macs: int) -> None:
        """What an operator gave for its arguments, and its MACs; for subclasses."""


def signature(values: Iterable[Any]) -> tuple[Hashable, ...]:
    """All that a meta kernel can know of its arguments.

    Raises:
        Unknown: one is a tensor of another kind.
    """
    parts: list[Hashable] = []
    for value in values:
        kind = type(value)
        if kind in PLAIN and value.is_meta:
            parts.append((value.shape, value.stride(), value.dtype, value.is_conj(), value.is_neg()))
        elif kind is list or kind is tuple:
            parts.append(signature(value))
        elif isinstance(value, Tensor):
            raise Unknown
        else:
            parts.append((kind, value))  # 1, 1.0 and True are equal but not the same
    return tuple(parts)


def _key(operator: Any, args: Arguments, kwargs: Mapping[str, Any]) -> Hashable:
    return operator, torch.get_default_dtype(), signature(args), signature(kwargs.items())


def _is_list(value: Any) -> bool:
    return type(value) in (list, tuple)


def _call(operator: Any, args: Arguments, kwargs: Mapping[str, Any]) -> tuple[Any, int]:
    out = operator(*args, **kwargs)
    return out, macs(operator, args, kwargs, out)


@cache
def _gives_view(operator: Any) -> bool:
    return any(r.alias_info is not None and not r.alias_info.is_write for r in operator._schema.returns)


@cache
def _treats_rows(operator: Any) -> bool:
    return str(operator._schema.name).startswith("aten::_foreach_")


def _recipe(out: Any, count: int, args: Arguments, kwargs: Mapping[str, Any]) -> Recipe | None:
    """None where an output cannot be made again, for example because it is a part of an argument."""
    outs = out if _is_list(out) else [out]
    taken = {t.untyped_storage()._cdata for t in tree_leaves((args, dict(kwargs))) if isinstance(t, Tensor)}
    try:
        parts = tuple(_part(each, args, taken) for each in outs)
    except Unknown:
        return None
    return Recipe(parts, type(out) if _is_list(out) else None, count)


def _part(out: Any, args: Arguments, taken: set[int]) -> Fresh | int | None:
    """One output; ``taken`` are the memories of the arguments and of the outputs before it."""
    if out is None:
        return None
    for position, value in enumerate(args):
        if value is out:
            return position
    fresh = _fresh(out)
    memory = out.untyped_storage()._cdata
    if memory in taken:
        raise Unknown
    taken.add(memory)
    return fresh


def _fresh(out: Any) -> Fresh:
    plain = type(out) is Tensor and out.is_meta and not (out.is_conj() or out.is_neg() or out.storage_offset())
    if not plain:
        raise Unknown
    tight, nbytes = Fresh(tuple(out.shape), out.stride(), out.dtype), out.untyped_storage().nbytes()
    if tight.make().untyped_storage().nbytes() == nbytes:
        return tight
    return Fresh(tight.shape, tight.stride, tight.dtype, nbytes // out.dtype.itemsize)
