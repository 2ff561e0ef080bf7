"""A network that answers for a case and segments it: one encoder, the heads, and the decoder of its segmentation.

Shape letters: B batch, C channels, K classes, O outputs, Z Y X axes of the volume (Y X in 2D).
"""

from typing import Any

from torch import Tensor, nn

from nnunet_ext.networks.case import CaseNetwork


class JointNetwork(CaseNetwork):
    """:class:`CaseNetwork` with a decoder. Names of weights are those of the segmentation network, so its fit.

    Args:
        whole: the network that segments; its encoder and decoder are taken.
        outputs: as for :class:`CaseNetwork`.
        pooling: as for :class:`CaseNetwork`.

    ``decodes`` says whether forward gives the logits as well; not at first, for a prediction needs the heads alone.
    """

    def __init__(self, whole: Any, outputs: int, **pooling: Any) -> None:
        super().__init__(whole.encoder, outputs, whole.initialize, **pooling)
        self.decoder: nn.Module = whole.decoder
        self.decodes = False

    def forward(self, x: Tensor) -> Any:
        """(B, O) for the input (B, C, Z, Y, X); with ``decodes`` a list of these and of the decoder's logits.

        The logits are (B, K, Z, Y, X), with deep supervision several of them from high to low resolution.
        """
        if not self.decodes:
            return super().forward(x)
        maps: list[list[Tensor]] = []
        # what the heads read of the encoder is the base class's business, and the encoder runs once
        handle = self.encoder.register_forward_hook(lambda _module, _inputs, found: maps.append(found))
        try:
            outputs = super().forward(x)
        finally:
            handle.remove()
        logits = self.decoder(maps[0])
        return [outputs, *logits] if isinstance(logits, list) else [outputs, logits]
