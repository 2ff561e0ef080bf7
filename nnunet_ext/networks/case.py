"""A network that answers for a whole case: an encoder, the means of its maps, and a head on them.

Shape letters: B batch, C channels, F features, O outputs, Z Y X axes of the volume (Y X in 2D).
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nnunet_ext.networks.weights import Network


class CaseNetwork(Network):
    """Encoder, global average pooling, head.

    Input (B, C, Z, Y, X), output (B, O).

    Args:
        encoder: gives maps (B, C_i, ...) from high to low resolution and names their channels in ``output_channels``.
        outputs: O of a linear head; who has other heads puts them at ``heads``.
        initialize: for the weights of the encoder; nnU-Net's trainer applies it.
        scales: so many of the last maps are pooled and concatenated.
    """

    def __init__(
        self, encoder: nn.Module, outputs: int, initialize: Callable[[nn.Module], Any], *, scales: int = 1
    ) -> None:
        super().__init__()
        self.encoder, self.initialize, self.scales = encoder, initialize, scales
        widths: Sequence[int] = encoder.output_channels  # type: ignore[assignment]
        self.n_features = sum(widths[-scales:])
        self.heads: nn.Module = nn.Linear(self.n_features, outputs)

    def features(self, x: Tensor) -> Tensor:
        """(B, F): the means of the encoder's last maps, in the order of the stages."""
        maps = self.encoder(x)[-self.scales :]
        return torch.cat([m.flatten(2).mean(2) for m in maps], 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, O) for the input (B, C, Z, Y, X)."""
        return self.heads(self.features(x))
