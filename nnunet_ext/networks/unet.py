"""U-Net of a branch encoder and the decoder of dynamic-network-architectures."""

from collections.abc import Sequence

from dynamic_network_architectures.building_blocks.unet_decoder import UNetDecoder
from dynamic_network_architectures.initialization.weight_init import InitWeights_He
from torch import Tensor, nn

from nnunet_ext.networks.encoder import FUSION_STAGE, BranchEncoder
from nnunet_ext.networks.spec import Branch, Stage
from nnunet_ext.networks.topology import Topology


class Decoder(UNetDecoder):
    """UNetDecoder that does not register the encoder a second time, so that each weight has one state-dict name."""

    def __init__(self, encoder: nn.Module, num_classes: int, depth: int, deep_supervision: bool) -> None:
        super().__init__(encoder, num_classes, depth, deep_supervision)
        del self.encoder


class BranchUNet(nn.Module):
    """Branches, fusion, trunk and a U-Net decoder.

    Input (B, C, Z, Y, X), output logits (B, K, Z, Y, X); with deep supervision a list of them from high to low
    resolution, one per stage but the lowest, in training and in evaluation mode alike. Axes must be divisible by
    the product of the plan's strides. 2D plans give a 2D network.

    Args:
        input_channels, num_classes: C and K.
        topology: the plan.
        width: channels of the first stage of one branch.
        decoder_depth: convolutions per decoder stage.
        deep_supervision: whether forward gives the list; may be changed at ``decoder.deep_supervision``.
        branches, trunk, fusion_stage, image_channels: see :class:`BranchEncoder`.
    """

    initialize = staticmethod(InitWeights_He(1e-2))  # as nnU-Net's own networks

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        topology: Topology,
        *,
        width: int,
        trunk: Sequence[Stage],
        branches: Sequence[Branch] = (),
        fusion_stage: int = FUSION_STAGE,
        decoder_depth: int = 2,
        image_channels: int | None = None,
        deep_supervision: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = BranchEncoder(
            input_channels,
            topology,
            width,
            branches=branches,
            trunk=trunk,
            fusion_stage=fusion_stage,
            image_channels=image_channels,
        )
        self.decoder = Decoder(self.encoder, num_classes, decoder_depth, deep_supervision)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Logits for the input (B, C, Z, Y, X)."""
        return self.decoder(self.encoder(x))
