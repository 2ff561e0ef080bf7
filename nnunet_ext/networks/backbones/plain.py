"""Plain convolutions, two per stage unless said otherwise, as in the 3D U-Net (Cicek et al. 2016, arXiv:1606.06650).

Optionally dilated, as far as the map allows it (:meth:`Topology.dilation`); rates without a common divisor leave no
voxel of the neighbourhood unseen (Wang et al. 2018, arXiv:1702.08502, hybrid dilated convolution).

Differences: instance normalisation and leaky ReLU as in nnU-Net (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z);
downsampling by max-pooling or by the stride of the first convolution.
"""

from collections.abc import Sequence

from torch import nn

from nnunet_ext.networks.encoder import StagePlan
from nnunet_ext.networks.layers import ConvNormAct


class PlainStage(nn.Sequential):
    """One convolution per dilation, (B, C, Z, Y, X) -> (B, C', Z / stride, ...); ``pool`` chooses max-pooling."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        plan: StagePlan,
        *,
        pool: bool = False,
        dilations: Sequence[int] = (1, 1),
    ) -> None:
        super().__init__()
        stride: tuple[int, ...] = plan.stride
        if pool and any(s > 1 for s in stride):
            pool_op = nn.MaxPool3d if plan.topology.dims == 3 else nn.MaxPool2d
            self.pool = pool_op(stride, stride)
            stride = (1,) * len(stride)
        for i, dilation in enumerate(dilations):
            conv = ConvNormAct(
                plan.topology,
                in_channels,
                out_channels,
                plan.kernel_size,
                stride=stride,
                dilation=plan.dilation(dilation),
            )
            self.add_module(f"conv{i}", conv)
            in_channels, stride = out_channels, (1,) * len(stride)
