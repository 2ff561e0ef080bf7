"""A network that answers for a whole case: an encoder, its pooled maps, and a head on them.

Shape letters: B batch, C channels, F features, O outputs, Z Y X axes of the volume (Y X in 2D).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nnunet_ext.networks.weights import Network

MEAN, MAXIMUM = "mean", "max"
POOLINGS: Mapping[str, Callable[[Tensor], Tensor]] = {
    MEAN: lambda flat: flat.mean(2),
    MAXIMUM: lambda flat: flat.amax(2),
}
"""How a map with its voxels in a row (B, C, N) becomes features (B, C)."""


class CaseNetwork(Network):
    """Encoder, global pooling, head.

    Input (B, C, Z, Y, X), output (B, O).

    Args:
        encoder: gives maps (B, C_i, ...) from high to low resolution and names their channels in ``output_channels``.
        outputs: O of a linear head; who has other heads puts them at ``heads``.
        initialize: for the weights of the encoder; nnU-Net's trainer applies it.
        scales: so many of the last maps are pooled and concatenated, or all there are.
        poolings: names of ``POOLINGS``; what they give is concatenated.

    ``covariates`` is how many of the last input channels go past the encoder to the heads; 0 at first.
    """

    def __init__(
        self,
        encoder: nn.Module,
        outputs: int,
        initialize: Callable[[nn.Module], Any],
        *,
        scales: int = 1,
        poolings: Sequence[str] = (MEAN,),
    ) -> None:
        super().__init__()
        self.initialize, self.scales, self.poolings = initialize, scales, tuple(poolings)
        self.covariates = 0
        self.put(encoder)
        self.heads: nn.Module = nn.Linear(self.n_features, outputs)

    def put(self, encoder: nn.Module) -> None:
        """Gives the network another encoder; its heads must be made for ``n_features`` then."""
        self.encoder = encoder
        self.n_features = sum(self.pooled_widths)

    @property
    def pooled_widths(self) -> list[int]:
        """Features of each pooled map, in the order of the stages."""
        widths: Sequence[int] = self.encoder.output_channels  # type: ignore[assignment]
        return [len(self.poolings) * width for width in widths[-self.scales :]]

    def features(self, x: Tensor) -> Tensor:
        """(B, F): what the encoder's last maps are pooled to, in the order of the stages."""
        flat = [each.flatten(2) for each in self.encoder(x)[-self.scales :]]
        return torch.cat([POOLINGS[name](each) for each in flat for name in self.poolings], 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, O) for the input (B, C, Z, Y, X); covariates are its last channels, constant over the axes."""
        if not self.covariates:
            return self.heads(self.features(x))
        features = self.features(x[:, : -self.covariates])
        told = x[:, -self.covariates :].flatten(2)[..., 0]
        return self.heads(torch.cat((features, told.to(features.dtype)), 1))


class FusedEncoders(nn.Module):
    """Several inputs of a case, each with an encoder of its own; their maps are concatenated level by level.

    Args:
        encoders: one for each input, of the same levels.
        groups: the channels that each reads.
    """

    def __init__(self, encoders: Sequence[nn.Module], groups: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.each = nn.ModuleList(encoders)
        self.groups = [list(group) for group in groups]
        widths: list[Sequence[int]] = [encoder.output_channels for encoder in encoders]  # type: ignore[misc]
        self.output_channels = [sum(level) for level in zip(*widths, strict=True)]

    def stage_modules(self) -> list[list[nn.Module]]:
        """The modules of each stage of all encoders."""
        of_each: list[list[list[nn.Module]]] = [encoder.stage_modules() for encoder in self.each]  # type: ignore[operator]
        return [[module for stage in level for module in stage] for level in zip(*of_each, strict=True)]

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, C, Z, Y, X) -> the maps of all levels."""
        maps = [encoder(x[:, group]) for encoder, group in zip(self.each, self.groups, strict=True)]
        return [torch.cat(level, 1) for level in zip(*maps, strict=True)]
