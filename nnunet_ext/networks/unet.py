"""U-Net of a branch encoder and the decoder of dynamic-network-architectures."""

from copy import copy
from typing import Any

from dynamic_network_architectures.building_blocks.simple_conv_blocks import ConvDropoutNormReLU
from dynamic_network_architectures.building_blocks.unet_decoder import UNetDecoder
from dynamic_network_architectures.initialization.weight_init import InitWeights_He
from torch import Tensor, nn
from torch.nn.functional import interpolate

from nnunet_ext.networks.chain import Chain
from nnunet_ext.networks.encoder import BranchEncoder
from nnunet_ext.networks.layers import ConvNormAct
from nnunet_ext.networks.residual_decoder import LINEAR
from nnunet_ext.networks.topology import Topology
from nnunet_ext.networks.weights import Network

# convolutions per decoder stage: nnU-Net's number after a single encoder, one after branches whatever they are made of,
# so that networks with branches differ in their encoders alone
DEPTH_SINGLE, DEPTH_BRANCHES = 2, 1


class Decoder(UNetDecoder):
    """UNetDecoder that does not register the encoder a second time, so that each weight has one state-dict name."""

    first_stage = 1  # of those that it decodes, counted from 1

    def __init__(self, encoder: nn.Module, num_classes: int, depth: int, deep_supervision: bool) -> None:
        super().__init__(encoder, num_classes, depth, deep_supervision)
        del self.encoder
        for block in self.modules():
            if isinstance(block, ConvDropoutNormReLU):
                block.all_modules = Chain(*block.all_modules)


class EfficientDecoder(Decoder):
    """EffiDec3D (Rahman et al. 2025, CVPR): few channels, and nothing decoded at full resolution.

    The decoder's convolutions are most of a light network's cost, so every map from stage 2 on is brought to the width
    of stage 1 beforehand, the last decoder stage is that of stage 2, and its logits are interpolated to the input.
    With deep supervision they are given twice, at both sizes.
    """

    first_stage = 2  # counted from 1

    def __init__(self, encoder: BranchEncoder, num_classes: int, depth: int, deep_supervision: bool) -> None:
        width, *deeper = encoder.output_channels
        narrow = copy(encoder)
        narrow.output_channels = [width] * len(deeper)
        narrow.strides, narrow.kernel_sizes = encoder.strides[1:], encoder.kernel_sizes[1:]
        super().__init__(narrow, num_classes, depth, deep_supervision)
        self.reductions = nn.ModuleList(ConvNormAct(encoder.topology, channels, width) for channels in deeper)
        self.scale = [float(s) for s in encoder.strides[1]]
        self.mode = LINEAR[encoder.topology.dims]

    def forward(self, skips: list[Tensor]) -> Tensor | list[Tensor]:
        """Logits from one map per stage from stage 2 on, high to low resolution."""
        found = super().forward([r(x) for r, x in zip(self.reductions, skips, strict=True)])
        largest = found[0] if isinstance(found, list) else found
        full = interpolate(largest, scale_factor=self.scale, mode=self.mode)
        return [full, *found] if isinstance(found, list) else full


class BranchUNet(Network):
    """Branches, fusion, trunk and a U-Net decoder.

    Input (B, C, Z, Y, X), output logits (B, K, Z, Y, X); with deep supervision a list of them from high to low
    resolution, one per stage but the lowest, in training and in evaluation mode alike. Axes must be divisible by
    the product of the plan's strides. 2D plans give a 2D network.

    Args:
        input_channels, num_classes: C and K.
        topology: the plan.
        width: channels of the first stage of one branch.
        efficient_decoder: whether the decoder is narrow and ends at stage 2; see :class:`EfficientDecoder`.
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
        efficient_decoder: bool = False,
        deep_supervision: bool = False,
        **encoder_options: Any,
    ) -> None:
        super().__init__()
        decoder_class = EfficientDecoder if efficient_decoder else Decoder
        first = decoder_class.first_stage
        self.encoder = self.encoder_class(input_channels, topology, width, first_skip=first, **encoder_options)
        depth = DEPTH_BRANCHES if len(self.encoder.branches) else DEPTH_SINGLE
        self.decoder = decoder_class(self.encoder, num_classes, depth, deep_supervision)

    @classmethod
    def pooled_encoder(
        cls,
        input_channels: int,
        topology: Topology,
        *,
        scales: int,
        width: int,
        efficient_decoder: bool = False,
        **options: Any,
    ) -> BranchEncoder:
        """The encoder alone, for heads on its last ``scales`` maps."""
        decoder = EfficientDecoder if efficient_decoder else Decoder
        encoder = cls.encoder_class(input_channels, topology, width, first_skip=decoder.first_stage, **options)
        encoder.without_skips(scales)
        return encoder

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Logits for the input (B, C, Z, Y, X)."""
        return self.decoder(self.encoder(x))
