"""U-Net of a branch encoder and the decoder of dynamic-network-architectures."""

from copy import copy
from typing import Any

from dynamic_network_architectures.building_blocks.simple_conv_blocks import ConvDropoutNormReLU
from dynamic_network_architectures.building_blocks.unet_decoder import UNetDecoder
from dynamic_network_architectures.initialization.weight_init import InitWeights_He
from torch import Tensor, nn

from nnunet_ext.networks.chain import Chain
from nnunet_ext.networks.encoder import BranchEncoder
from nnunet_ext.networks.layers import ConvNormAct
from nnunet_ext.networks.topology import Topology


class Decoder(UNetDecoder):
    """UNetDecoder that does not register the encoder a second time, so that each weight has one state-dict name."""

    def __init__(self, encoder: nn.Module, num_classes: int, depth: int, deep_supervision: bool) -> None:
        super().__init__(encoder, num_classes, depth, deep_supervision)
        del self.encoder
        for block in self.modules():
            if isinstance(block, ConvDropoutNormReLU):
                block.all_modules = Chain(*block.all_modules)


class NarrowDecoder(Decoder):
    """A decoder held at the width of the first stage: every skip beyond the first is brought to it beforehand.

    The decoder's convolutions are most of a light network's cost (Rahman et al. 2025, EffiDec3D, CVPR).
    """

    def __init__(self, encoder: BranchEncoder, num_classes: int, depth: int, deep_supervision: bool) -> None:
        width, *deeper = encoder.output_channels
        narrow = copy(encoder)
        narrow.output_channels = [width] * len(encoder.output_channels)
        super().__init__(narrow, num_classes, depth, deep_supervision)
        self.reductions = nn.ModuleList(ConvNormAct(encoder.topology, channels, width) for channels in deeper)

    def forward(self, skips: list[Tensor]) -> Tensor | list[Tensor]:
        """Logits from one map per stage, high to low resolution."""
        first, *deeper = skips
        return super().forward([first, *(r(x) for r, x in zip(self.reductions, deeper, strict=True))])


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
        narrow_decoder: whether the whole decoder has the width of the first stage; see :class:`NarrowDecoder`.
        deep_supervision: whether forward gives the list; may be changed at ``decoder.deep_supervision``.
        encoder_options: branches, trunk, fusion_stage, image_channels; see :class:`BranchEncoder`.
    """

    initialize = staticmethod(InitWeights_He(1e-2))  # as nnU-Net's own networks
    encoder_class: type[BranchEncoder] = BranchEncoder

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        topology: Topology,
        *,
        width: int,
        decoder_depth: int = 2,
        narrow_decoder: bool = False,
        deep_supervision: bool = False,
        **encoder_options: Any,
    ) -> None:
        super().__init__()
        self.encoder = self.encoder_class(input_channels, topology, width, **encoder_options)
        decoder_class = NarrowDecoder if narrow_decoder else Decoder
        self.decoder = decoder_class(self.encoder, num_classes, decoder_depth, deep_supervision)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Logits for the input (B, C, Z, Y, X)."""
        return self.decoder(self.encoder(x))
