"""Channel attention with one weight per modality, from squeeze-and-excitation (Hu et al. 2018, arXiv:1709.01507, CVPR).

Difference: the excitation has one output per modality instead of one per channel, so that the weights can be read as
contributions of the modalities.

Shape letters: B batch, M modalities (branches), C channels of one branch, Z Y X axes of the volume (Y X in 2D).
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from nnunet_ext.networks.encoder import BranchEncoder
from nnunet_ext.networks.spec import Branch
from nnunet_ext.networks.topology import Topology
from nnunet_ext.networks.unet import BranchUNet

REDUCTION = 16  # of the squeezed channels, as in the paper


class ModalityGate(nn.Module):
    """Weighs the maps of M branches with C channels each, M maps (B, C, Z, Y, X), by numbers between 0 and 1."""

    def __init__(self, modalities: int, channels: int) -> None:
        super().__init__()
        squeezed = modalities * channels
        hidden = max(squeezed // REDUCTION, modalities)
        self.excitation = nn.Sequential(
            nn.Linear(squeezed, hidden), nn.ReLU(), nn.Linear(hidden, modalities), nn.Sigmoid()
        )

    def weights(self, maps: Sequence[Tensor]) -> Tensor:
        """(B, M)."""
        return self.excitation(torch.cat([m.flatten(2).mean(2) for m in maps], 1))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """The weighed maps."""
        weights = self.weights(maps)
        return [m * w.view(-1, *(1,) * (m.ndim - 1)) for m, w in zip(maps, weights.unbind(1), strict=True)]


class ModalityAttentionEncoder(BranchEncoder):
    """Every fusion reads weighed maps; the branches themselves go on with the maps as they are."""

    def __init__(
        self, input_channels: int, topology: Topology, width: int, *, branches: Sequence[Branch], **options: Any
    ) -> None:
        super().__init__(input_channels, topology, width, branches=branches, **options)
        assert all(len(b.modalities) == 1 for b in branches), "a weight per modality needs a branch per modality"
        fused = self.output_channels[: len(self.fusions)]
        self.gates = nn.ModuleList(ModalityGate(len(branches), channels) for channels in fused)

    def gate(self, stage: int) -> ModalityGate:
        """The gate ahead of the fusion of a stage, counted from 0."""
        return cast(ModalityGate, self.gates[stage])

    def fuse(self, stage: int, maps: list[Tensor]) -> Tensor:
        """The skip of a stage, counted from 0, from the weighed maps of all branches."""
        return super().fuse(stage, self.gate(stage)(maps))


class ModalityAttentionUNet(BranchUNet):
    """:class:`BranchUNet` whose fusions weigh the modalities."""

    encoder: ModalityAttentionEncoder
    encoder_class = ModalityAttentionEncoder

    def modality_weights(self, x: Tensor) -> Tensor:
        """How much each modality counts for the input (B, C, Z, Y, X), between 0 and 1, meant over the fused stages.

        Returns:
            (B, M), in the order of ``encoder.branch_modalities``. Nothing is kept from or for a forward pass.
        """
        weights = [self.encoder.gate(stage).weights(maps) for stage, maps in enumerate(self.encoder.branch_maps(x))]
        return torch.stack(weights).mean(0)
