"""nnU-Net's plan for one configuration, and the operators that every block receives from it.

Blocks are written once for 2D and 3D: they never name Conv2d or Conv3d but ask the topology.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pydoc import locate
from typing import Any

from torch import nn

from nnunet_ext.networks.conv import Conv2d, Conv3d
from nnunet_ext.networks.norm import InstanceNorm2d, InstanceNorm3d

# what the plan's architecture holds for nnU-Net's own networks; widths and depths come from our tables instead
PLAN_KEYS_NOT_USED = frozenset(
    {"features_per_stage", "n_conv_per_stage", "n_blocks_per_stage", "n_conv_per_stage_decoder", "nonlin_first"}
)
CLASS_KEYS = ("conv_op", "norm_op", "dropout_op", "nonlin")
# voxels along an axis of the lowest map where the patch is not known: nnU-Net's planner leaves at least so many
SMALLEST_MAP = 4
# torch's operators with the forms that are fastest on a CPU; every other class is taken as it is
OURS: Mapping[type[nn.Module], type[nn.Module]] = {
    nn.Conv2d: Conv2d,
    nn.Conv3d: Conv3d,
    nn.InstanceNorm2d: InstanceNorm2d,
    nn.InstanceNorm3d: InstanceNorm3d,
}
WIDTH_CAP = 10  # the deepest stages have at most ten times the first stage's channels, as in nnU-Net (320 = 10 * 32)


@dataclass(frozen=True)
class Topology:
    """Stages of a network and the operators for its blocks.

    Attributes:
        conv_op: Conv2d or Conv3d.
        strides, kernel_sizes: one tuple per stage, in the order of the axes (z, y, x); the first stride is 1.
        norm_op, nonlin, dropout_op: classes, with their keyword arguments; dropout_op may be None.
        conv_bias: whether plain convolutions have a bias.
        patch_size: the plan's patch in voxels, where known; blocks may size position tables by it.
    """

    conv_op: type[nn.Module]
    strides: tuple[tuple[int, ...], ...]
    kernel_sizes: tuple[tuple[int, ...], ...]
    norm_op: type[nn.Module]
    norm_op_kwargs: Mapping[str, Any] = field(default_factory=dict)
    nonlin: type[nn.Module] = nn.LeakyReLU
    nonlin_kwargs: Mapping[str, Any] = field(default_factory=dict)
    dropout_op: type[nn.Module] | None = None
    dropout_op_kwargs: Mapping[str, Any] | None = None
    conv_bias: bool = True
    patch_size: tuple[int, ...] | None = None

    @classmethod
    def from_plan(cls, plan: Mapping[str, Any], patch_size: Sequence[int] | None = None) -> "Topology":
        """Reads ``architecture.arch_kwargs`` of a plans file; classes may be given as dotted paths.

        Raises:
            ValueError: an unknown key, entries that do not match ``n_stages``, or a patch that the strides shrink
                to a single voxel, where instance normalisation is undefined.
        """
        values = {k: v for k, v in plan.items() if k not in PLAN_KEYS_NOT_USED and k != "n_stages"}
        unknown = sorted(set(values) - set(cls.__dataclass_fields__))
        if unknown:
            raise ValueError(
                f"The plan's architecture has the unknown keys {unknown}; legal are "
                f"{sorted({*cls.__dataclass_fields__, *PLAN_KEYS_NOT_USED, 'n_stages'})}."
            )
        for key in CLASS_KEYS:
            if isinstance(values.get(key), str):
                values[key] = locate(values[key])
        values["conv_op"], values["norm_op"] = (OURS.get(values[key], values[key]) for key in ("conv_op", "norm_op"))
        n_dims = 3 if issubclass(values["conv_op"], nn.Conv3d) else 2
        n_stages = plan.get("n_stages", len(values["strides"]))
        for key in ("strides", "kernel_sizes"):
            values[key] = _per_stage(key, values[key], n_stages, n_dims)
        for key in ("norm_op_kwargs", "nonlin_kwargs"):
            values[key] = dict(values.get(key) or {})
        values["patch_size"] = tuple(patch_size) if patch_size is not None else None
        topology = cls(**values)
        topology.check_patch()
        return topology

    @property
    def dims(self) -> int:
        """2 or 3."""
        return len(self.strides[0])

    @property
    def n_stages(self) -> int:
        """Number of resolutions."""
        return len(self.strides)

    def reduction(self, stage: int) -> tuple[int, ...]:
        """By how much the axes are smaller at ``stage`` (counted from 0) than at the input."""
        return tuple(prod(s[axis] for s in self.strides[: stage + 1]) for axis in range(self.dims))

    def map_size(self, stage: int) -> tuple[int, ...]:
        """Voxels of the map that leaves ``stage`` (counted from 0); without a patch the lowest has ``SMALLEST_MAP``."""
        lowest = self.reduction(self.n_stages - 1)
        patch = self.patch_size or tuple(SMALLEST_MAP * r for r in lowest)
        return tuple(p // r for p, r in zip(patch, self.reduction(stage), strict=True))

    def dilation(self, stage: int, rate: int) -> tuple[int, ...]:
        """A rate per axis: the wanted one, or half the map of ``stage`` where that is less, but at least 1.

        With more than half the map, the outer taps of a kernel of three see more zeros around the map than map.
        """
        return tuple(max(1, min(rate, size // 2)) for size in self.map_size(stage))

    def widths(self, first: int) -> list[int]:
        """Channels per stage: doubling from ``first``, capped at ten times ``first``."""
        return [min(first * 2**i, first * WIDTH_CAP) for i in range(self.n_stages)]

    def check_patch(self) -> None:
        """Refuses a patch that the strides do not divide or that ends in one voxel."""
        if self.patch_size is None:
            return
        total = self.reduction(self.n_stages - 1)
        if any(p % r for p, r in zip(self.patch_size, total, strict=True)):
            legal = [max(r, -(-p // r) * r) for p, r in zip(self.patch_size, total, strict=True)]
            raise ValueError(
                f"The patch {list(self.patch_size)} must be divisible by the product of the strides {list(total)}; "
                f"the next legal patch is {legal}."
            )
        if self.patch_size == total:
            raise ValueError(
                f"The patch {list(self.patch_size)} ends in a map of one voxel, which cannot be normalised; use a "
                f"patch of at least {[2 * p for p in self.patch_size[:1]] + list(self.patch_size[1:])}."
            )

    def norm(self, channels: int) -> nn.Module:
        """A normalisation layer for ``channels``."""
        return self.norm_op(channels, **self.norm_op_kwargs)

    def act(self) -> nn.Module:
        """The plan's activation."""
        return self.nonlin(**self.nonlin_kwargs)


def _per_stage(key: str, value: Sequence[Any], n_stages: int, n_dims: int) -> tuple[tuple[int, ...], ...]:
    if len(value) != n_stages:
        raise ValueError(f"The plan gives {len(value)} {key} for {n_stages} stages; it needs one per stage.")
    rows = tuple((v,) * n_dims if isinstance(v, int) else tuple(v) for v in value)
    if any(len(row) != n_dims for row in rows):
        raise ValueError(f"The plan's {key} {list(value)} must have {n_dims} entries each for this conv_op.")
    return rows
