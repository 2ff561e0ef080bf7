"""A generic encoder of several branches that are fused at one stage. It knows no backbone and no paper.

It follows the encoder protocol of dynamic-network-architectures (``output_channels``, ``strides``, ``kernel_sizes``,
``conv_op``, ``norm_op`` ...; forward gives the list of skips from high to low resolution), so that its ``UNetDecoder``
serves every family.

Shape letters: B batch, C channels, Z Y X axes of the volume (Y X in 2D).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from nnunet_ext.networks.chain import in_turn
from nnunet_ext.networks.channels import default_channels
from nnunet_ext.networks.conv import Conv2d, Conv3d
from nnunet_ext.networks.layers import ConvNormAct
from nnunet_ext.networks.spec import Branch, Stage
from nnunet_ext.networks.topology import Topology
from nnunet_ext.networks.weights import RATES

FUSION_STAGE = 5  # counted from 1


@dataclass(frozen=True)
class StagePlan:
    """Where a stage stands: its index from 0 and what the plan says of it.

    ``stride`` is applied at the stage's entry; the stage must return maps that are smaller by exactly it.
    """

    index: int
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    topology: Topology

    def dilation(self, rate: int) -> tuple[int, ...]:
        """A wanted rate as far as the stage's map allows it; see :meth:`Topology.dilation`."""
        return self.topology.dilation(self.index, rate)


# (in_channels, out_channels, plan) -> stage. A stage made of a paper's light blocks names their classes in its class
# attribute paper_blocks and holds at least two of them; benchmarks/shares.py accounts for it
StageFactory = Callable[[int, int, StagePlan], nn.Module]


def stage_factory(stage: Stage) -> StageFactory:
    """The constructor ``(in_channels, out_channels, plan) -> module`` that a declaration names."""
    module, _, attribute = f"nnunet_ext.networks.{stage.path}".rpartition(".")
    return partial(getattr(import_module(module), attribute), **stage.options)


def stages_for(named: Sequence[Stage], n_stages: int) -> list[Stage]:
    """One stage per resolution: the last named one repeats; of too many, the first and the last ones count."""
    first, *further = [*named, *[named[-1]] * (n_stages - len(named))]
    return [first, *further[len(further) - (n_stages - 1) :]]


class Fusion(ConvNormAct):
    """1x1x1 convolution, normalisation, activation over the concatenated maps of all branches.

    The maps are not really concatenated: the products of each with its part of the kernel are added up, which saves
    the time and the memory of the largest maps of the network.
    """

    conv: Conv2d | Conv3d

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """(B, C', Z, Y, X) from maps (B, C_i, Z, Y, X)."""
        kernels = self.conv.weight.split([m.shape[1] for m in maps], 1)
        total = self.conv.convolve(maps[0], kernels[0], self.conv.bias)
        for further, kernel in zip(maps[1:], kernels[1:], strict=True):
            total += self.conv.convolve(further, kernel, None)
        return in_turn(total, self.conv, self.norm, self.act)


class BranchEncoder(nn.Module):
    """Branches of modalities, fused from one stage on, then a common trunk.

    Before the fusion, skip k is a 1x1x1 convolution, normalisation and activation over the concatenated branches,
    back to the width of one branch; the trunk continues from the last of them.

    Args:
        input_channels: image channels, then further ones (coordinates, a previous stage), which go to every branch.
        topology: the plan.
        width: channels of the first stage of one branch; a branch of k modalities is k times as wide.
        branches: empty for a single encoder, which reads all input channels.
        trunk: stages of the trunk, named like a branch's from stage 1 on.
        fusion_stage: first common stage, counted from 1; the last one where the plan has fewer.
        first_skip: the first stage, counted from 1, whose map the decoder reads; before it nothing is fused.
        image_channels: how many of the input channels are image; all of them if None.

    Raises:
        ValueError: for a number of image channels that the branches cannot read.
    """

    modality_channels: Tensor
    branches: nn.ModuleList

    def __init__(
        self,
        input_channels: int,
        topology: Topology,
        width: int,
        *,
        branches: Sequence[Branch] = (),
        trunk: Sequence[Stage],
        fusion_stage: int = FUSION_STAGE,
        first_skip: int = 1,
        image_channels: int | None = None,
    ) -> None:
        super().__init__()
        self._describe(topology, width)
        self.image_channels = input_channels if image_channels is None else image_channels
        further = input_channels - self.image_channels
        self.branch_modalities = tuple(b.modalities for b in branches)
        modalities = [m for b in branches for m in b.modalities]
        n_split = min(fusion_stage, topology.n_stages) - 1 if branches else 0
        make = partial(_stages, topology=topology, widths=self.output_channels)
        self.branches = nn.ModuleList(
            make(b.stages, range(n_split), len(b.modalities) + further, multiple=len(b.modalities)) for b in branches
        )
        self.n_skipped = first_skip - 1
        self.fusions = nn.ModuleList(
            Fusion(topology, w * len(modalities), w) if k >= self.n_skipped else nn.Identity()
            for k, w in enumerate(self.output_channels[:n_split])
        )
        trunk_input = self.output_channels[n_split - 1] if branches else input_channels
        self.trunk = make(trunk, range(n_split, topology.n_stages), trunk_input)
        if branches:
            channels = default_channels(modalities, self.image_channels)
            self.register_buffer("modality_channels", torch.tensor(channels, dtype=torch.long))
        rates = [m.dilation for m in self.modules() if isinstance(m, _ConvNd)]
        if any(max(of) > 1 for of in rates):
            # weights have the same shapes at all rates, so the checkpoint tells for which they were trained
            self.register_buffer(RATES, torch.tensor(rates, dtype=torch.long))

    def _describe(self, topology: Topology, width: int) -> None:
        """Sets what dynamic-network-architectures' decoder reads from an encoder."""
        self.topology = topology
        self.output_channels = topology.widths(width)
        self.strides = [list(s) for s in topology.strides]
        self.kernel_sizes = [list(k) for k in topology.kernel_sizes]
        self.conv_op, self.conv_bias = topology.conv_op, topology.conv_bias
        self.norm_op, self.norm_op_kwargs = topology.norm_op, dict(topology.norm_op_kwargs)
        self.nonlin, self.nonlin_kwargs = topology.nonlin, dict(topology.nonlin_kwargs)
        self.dropout_op, self.dropout_op_kwargs = topology.dropout_op, topology.dropout_op_kwargs

    def without_skips(self, kept: int) -> None:
        """Drops what only a decoder reads: fusions that are not among the last ``kept`` maps nor the trunk's input."""
        if not len(self.fusions):
            return
        before = len(self.fusions) + len(self.trunk) - kept
        self.n_skipped = max(self.n_skipped, min(len(self.fusions) - 1, before))
        for k in range(self.n_skipped):
            self.fusions[k] = nn.Identity()
        self.output_channels = self.output_channels[self.n_skipped :]

    def stage_modules(self) -> list[list[nn.Module]]:
        """The modules of each stage, high to low resolution: of all branches with their fusion, then of the trunk."""
        split = [
            [*(cast(nn.ModuleList, branch)[k] for branch in self.branches), fusion]
            for k, fusion in enumerate(self.fusions)
        ]
        return [*split, *([stage] for stage in self.trunk)]

    def branch_inputs(self, x: Tensor) -> list[Tensor]:
        """What each branch reads of the input (B, C, Z, Y, X): its modalities and all channels beyond the image's."""
        further = x[:, self.image_channels :]
        indices = torch.split(self.modality_channels, [len(m) for m in self.branch_modalities])
        selected = [x.index_select(1, i) for i in indices]
        return [torch.cat((s, further), 1) for s in selected] if further.shape[1] else selected

    def branch_maps(self, x: Tensor) -> Iterator[list[Tensor]]:
        """For every stage before the fusion the maps of all branches."""
        maps = self.branch_inputs(x) if len(self.branches) else []
        for k in range(len(self.fusions)):
            maps = [cast(nn.ModuleList, branch)[k](m) for branch, m in zip(self.branches, maps, strict=True)]
            yield maps

    def fusion_inputs(self, x: Tensor) -> Iterator[list[Tensor]]:
        """What the fusion of each stage reads: the maps of all branches."""
        return self.branch_maps(x)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, C, Z, Y, X) -> one map per stage from ``first_skip`` on, high to low resolution."""
        fusions = zip(self.fusions, self.fusion_inputs(x), strict=True)
        skips = [fusion(maps) for stage, (fusion, maps) in enumerate(fusions) if stage >= self.n_skipped]
        x = skips[-1] if skips else x
        for stage in self.trunk:
            x = stage(x)
            skips.append(x)
        return skips


def _stages(
    named: Sequence[Stage],
    indices: range,
    in_channels: int,
    *,
    topology: Topology,
    widths: Sequence[int],
    multiple: int = 1,
) -> nn.ModuleList:
    """The stages with the given indices; ``multiple`` widens every one of them."""
    stages = nn.ModuleList()
    chosen = stages_for(named, topology.n_stages)
    for i in indices:
        plan = StagePlan(i, topology.kernel_sizes[i], topology.strides[i], topology)
        stages.append(stage_factory(chosen[i])(in_channels, widths[i] * multiple, plan))
        in_channels = widths[i] * multiple
    return stages
