"""Channel attention with one weight per modality, from squeeze-and-excitation (Hu et al. 2018, arXiv:1709.01507, CVPR).

Differences: the excitation has one output per modality instead of one per channel. What is squeezed are magnitudes in
the image's own scale: instance normalisation gives every map the mean 0 and the spread 1, so that the paper's means
would be the same whatever the branch reads. Beside the excitation, which reads all modalities, a modality's weight
reads that modality's own magnitude. SiLU instead of ReLU, whose few hidden units could all be silent from the start.

A weight says how far a branch's maps are let through, for this input and in this network. It rises with the contrast
of its modality before any training. That it also ranks modalities by what they tell of the tumour has been shown after
training on phantoms one of whose modalities alone shows it (``tests/networks/test_modality_attention.py``), not on
images of patients.

Shape letters: B batch, M modalities (branches), C channels of one branch, Z Y X axes of the volume (Y X in 2D).
"""

from collections.abc import Iterator, Sequence
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
        self.excitation = nn.Sequential(nn.Linear(squeezed, hidden), nn.SiLU(), nn.Linear(hidden, modalities))
        nn.init.zeros_(cast(nn.Linear, self.excitation[-1]).bias)  # no modality is preferred before it is seen
        self.own = nn.Parameter(torch.ones(modalities))

    def squeeze(self, maps: Sequence[Tensor], spread: Tensor) -> Tensor:
        """(B, M, C): log(1 + magnitude of a map), in units of the images' intensities."""
        magnitudes = torch.stack([m.flatten(2).abs().mean(2) for m in maps], 1)
        return torch.log1p(magnitudes * spread[..., None])

    def weights(self, maps: Sequence[Tensor], spread: Tensor) -> Tensor:
        """(B, M); ``spread`` (B, M) is the standard deviation of each modality's intensities."""
        squeezed = self.squeeze(maps, spread)
        return torch.sigmoid(self.excitation(squeezed.flatten(1)) + self.own * squeezed.mean(2))

    def forward(self, maps: Sequence[Tensor], spread: Tensor) -> list[Tensor]:
        """The weighed maps."""
        weights = self.weights(maps, spread).to(maps[0].dtype)  # autocast computes logarithms in float32
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

    def without_skips(self, kept: int) -> None:
        """See the base class; the weights of those fusions go too."""
        super().without_skips(kept)
        for k in range(self.n_skipped):
            self.gates[k] = nn.Identity()

    def stage_modules(self) -> list[list[nn.Module]]:
        """See the base class; the weights of a fusion are of its stage."""
        split, trunk = super().stage_modules()[: len(self.gates)], super().stage_modules()[len(self.gates) :]
        return [*([*stage, gate] for stage, gate in zip(split, self.gates, strict=True)), *trunk]

    def spread(self, x: Tensor) -> Tensor:
        """(B, M): standard deviation of the intensities of each branch's modality in (B, C, Z, Y, X)."""
        return x.index_select(1, self.modality_channels).flatten(2).std(2, correction=0)

    def fusion_inputs(self, x: Tensor) -> Iterator[list[Tensor]]:
        """The weighed maps of all branches."""
        spread = self.spread(x)
        for gate, maps in zip(self.gates, self.branch_maps(x), strict=True):
            yield gate(maps, spread) if isinstance(gate, ModalityGate) else maps

    def weights(self, x: Tensor) -> Tensor:
        """(stages, B, M)."""
        spread, pairs = self.spread(x), zip(self.gates, self.branch_maps(x), strict=True)
        return torch.stack([gate.weights(maps, spread) for gate, maps in pairs if isinstance(gate, ModalityGate)])


class ModalityAttentionUNet(BranchUNet):
    """:class:`BranchUNet` whose fusions weigh the modalities."""

    encoder: ModalityAttentionEncoder
    encoder_class = ModalityAttentionEncoder

    def modality_weights(self, x: Tensor) -> Tensor:
        """How far each modality is let through for the input (B, C, Z, Y, X), between 0 and 1, meant over the stages.

        Returns:
            (B, M), in the order of ``encoder.branch_modalities``. Nothing is kept from or for a forward pass.
        """
        return self.encoder.weights(x).mean(0)
