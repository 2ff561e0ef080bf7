"""Backbones of timm (https://github.com/huggingface/pytorch-image-models) as encoders in 2D; nnunetv2 brings timm."""

from collections.abc import Iterator, Sequence
from typing import Any

import timm
from torch import Tensor, nn

from nnunet_ext.networks.topology import Topology

STAGES = 4  # so many last ones


class TimmEncoder(nn.Module):
    """(B, C, Y, X) -> one map (B, F, 1, 1): the features that timm's own classifier reads.

    After :meth:`give_stages` the maps of the last four stages instead, from high to low resolution.

    Args:
        input_channels: C.
        topology: its patch is the size for which a backbone makes position tables, where it has such.
        width: not used, the architecture has its own.
        model: timm's name, with the tag of its published weights.
        image_channels: not used, all input channels are read alike.

    Raises:
        ValueError: this version of timm has no such architecture, or not for the patch.
    """

    def __init__(
        self,
        input_channels: int,
        topology: Topology,
        *,
        width: int,
        model: str,
        image_channels: int | None = None,
    ) -> None:
        super().__init__()
        self.name, self.staged = model, False
        self.model: Any = _created(model, input_channels, topology.patch_size)
        self.output_channels = [self.model.num_features if self.model.num_features else self.model.head_hidden_size]

    @classmethod
    def pooled_encoder(cls, input_channels: int, topology: Topology, *, scales: int, **options: Any) -> "TimmEncoder":
        """The encoder itself; with the maps of its stages where several are to be pooled."""
        encoder = cls(input_channels, topology, **options)
        if scales > 1:
            encoder.give_stages()
        return encoder

    def stage_modules(self) -> list[list[nn.Module]]:
        """The modules of each resolution that timm names (``feature_info``); what follows the last is of the last."""
        ends = [info["module"] for info in self.model.feature_info]
        stages: list[list[nn.Module]] = [[]]
        for name, module in _parts(self.model, ends):
            stages[-1].append(module)
            if name in ends[:-1]:
                stages.append([])
        return stages

    @staticmethod
    def initialize(module: nn.Module) -> None:
        """Nothing: timm initialises each architecture as its paper does."""

    def give_stages(self) -> None:
        """From now on :meth:`forward` gives the maps of stages; the layers after the last one are taken out."""
        self.staged = True
        self.model.prune_intermediate_layers(STAGES, prune_norm=True, prune_head=True)
        if hasattr(self.model, "head"):
            self.model.head = nn.Identity()  # ConvNeXt keeps a norm there
        self.output_channels = [stage["num_chs"] for stage in self.model.feature_info[-STAGES:]]

    def forward(self, x: Tensor) -> list[Tensor]:
        """The pooled features, or the maps of the stages."""
        if self.staged:
            maps: list[Tensor] = self.model.forward_intermediates(x, indices=STAGES, intermediates_only=True)
            return maps
        features: Tensor = self.model(x)  # without a classifier timm's networks end with them
        return [features[:, :, None, None]]


def _parts(model: nn.Module, ends: Sequence[str], prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Modules that together are the model, in their order, none larger than one that ends a stage."""
    for child, module in model.named_children():
        name = prefix + child
        if any(end.startswith(f"{name}.") for end in ends):
            yield from _parts(module, ends, f"{name}.")
        else:
            yield name, module


def _created(model: str, channels: int, patch: tuple[int, ...] | None) -> nn.Module:
    if not timm.is_model(model.partition(".")[0]):
        raise ValueError(f"timm {timm.__version__} has no {model}; install another version of timm.")
    # attention over positions has tables for one size: architectures without such do not take the argument
    sized = {"img_size": patch} if patch and "coatnet" in model else {}
    created: nn.Module = timm.create_model(model, pretrained=False, in_chans=channels, num_classes=0, **sized)
    return created
