"""ResNet18 (He et al. 2016, arXiv:1512.03385) as an encoder, in 2D with torchvision's names and in 3D with MONAI's.

Differences: none in 2D (torchvision's ``resnet18``); 3D as MONAI's ``resnet18`` with a first stride of 2 on every axis.
Strides, kernels and normalisation are the paper's, not the plan's, so that published weights fit; the plan says the
number of axes. Options: squeeze-and-excitation (Hu et al. 2018, arXiv:1709.01507) on the last map.
"""

from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from nnunet_ext.networks.topology import Topology

BLOCKS = 2  # of each of the four stages
REDUCTION = 16  # of the squeezed channels, as in the paper
NORMS: dict[int, type[nn.Module]] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
POOLS: dict[int, type[nn.Module]] = {2: nn.MaxPool2d, 3: nn.MaxPool3d}


class BasicBlock(nn.Module):
    """Two convolutions of three beside an identity, or beside a convolution of one where the shape changes."""

    def __init__(self, topology: Topology, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        conv, norm = topology.conv_op, NORMS[topology.dims]
        self.conv1 = conv(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = norm(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = conv(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = norm(channels)
        self.downsample: nn.Module | None = None
        if stride > 1 or in_channels != channels:
            self.downsample = nn.Sequential(conv(in_channels, channels, 1, stride, bias=False), norm(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, Z, Y, X) -> (B, C', Z / stride, ...)."""
        kept = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + kept)


class SqueezeExcitation(nn.Module):
    """A weight between 0 and 1 for each channel, from the means of all channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = channels // REDUCTION
        self.excitation = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))

    def forward(self, x: Tensor) -> Tensor:
        """The weighed map (B, C, Z, Y, X)."""
        weights = self.excitation(x.flatten(2).mean(2)).sigmoid().to(x.dtype)
        return x * weights.view(*weights.shape, *(1,) * (x.ndim - 2))


class ResNet18(nn.Module):
    """The encoder: (B, C, Z, Y, X) -> four maps of ``width``, twice, four and eight times it, from a quarter on.

    Args:
        input_channels: C.
        topology: for its number of axes.
        width: channels of the first stage, 64 in the paper.
        image_channels: not used, all input channels are read alike.
        squeeze_excitation: whether the last map's channels are weighed.
    """

    def __init__(
        self,
        input_channels: int,
        topology: Topology,
        *,
        width: int,
        image_channels: int | None = None,
        squeeze_excitation: bool = False,
    ) -> None:
        super().__init__()
        dims = topology.dims
        self.output_channels = [width * 2**i for i in range(4)]
        self.conv1 = topology.conv_op(input_channels, width, 7, 2, 3, bias=False)
        self.bn1 = NORMS[dims](width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = POOLS[dims](3, 2, 1)
        channels = width
        for i, wider in enumerate(self.output_channels):
            first = BasicBlock(topology, channels, wider, 1 if i == 0 else 2)
            rest = (BasicBlock(topology, wider, wider, 1) for _ in range(BLOCKS - 1))
            self.add_module(f"layer{i + 1}", nn.Sequential(first, *rest))
            channels = wider
        self.excitation = SqueezeExcitation(channels) if squeeze_excitation else nn.Identity()

    @classmethod
    def pooled_encoder(cls, input_channels: int, topology: Topology, *, scales: int, **options: Any) -> "ResNet18":
        """The encoder itself."""
        return cls(input_channels, topology, **options)

    @staticmethod
    def initialize(module: nn.Module) -> None:
        """Kaiming's, by outputs, as torchvision's."""
        if isinstance(module, _ConvNd):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, _BatchNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)

    def stage_modules(self) -> list[list[nn.Module]]:
        """The modules of each of the four stages; the convolution before them is of none."""
        stages = [[getattr(self, f"layer{i + 1}")] for i in range(4)]
        return [*stages[:-1], [*stages[-1], self.excitation]]

    def forward(self, x: Tensor) -> list[Tensor]:
        """The maps of the four stages."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        maps = []
        for i in range(4):
            x = getattr(self, f"layer{i + 1}")(x)
            maps.append(x)
        return [*maps[:-1], self.excitation(maps[-1])]
