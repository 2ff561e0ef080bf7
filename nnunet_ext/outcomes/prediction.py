"""From a preprocessed image to a case's outputs: the mean over patches that cover it, as nnU-Net's window lays them.

Where mirroring is asked for, each patch is seen in all its mirrored forms, as nnU-Net sees it. Outputs of patches and
forms are averaged as they leave the heads, before probabilities or values are read in them: nnU-Net averages logits.
A mean of logits, locations or standardised numbers (of times their logarithms) is one of these again, with cut-points
and spreads that are the same for all forms, and patches and forms can be averaged in any order. Folds are averaged in
probabilities and values instead, for each has cut-points and a scale of its own.
"""

from collections.abc import Iterator, Sequence
from itertools import chain, combinations, product
from typing import Any

import torch
from acvl_utils.cropping_and_padding.padding import pad_nd_image
from nnunetv2.inference.sliding_window_prediction import compute_steps_for_sliding_window
from torch import Tensor, nn

from nnunet_ext.trainers.precision import loss_context

STEP = 0.5  # of the patch, from one to the next, as nnU-Net's
AT_ONCE = 8  # patches of a case in one forward pass


def patches(image: Tensor, size: Sequence[int]) -> Iterator[Tensor]:
    """Patches (C, *size) that cover an image (C, Z, Y, X), padded by zeros where it is smaller than the patch.

    A patch of two axes is laid on every slice.
    """
    slices = [image] if len(size) == image.ndim - 1 else list(image.unbind(1))
    for part in slices:
        padded = pad_nd_image(part, size, "constant", {"value": 0}, False)
        steps = compute_steps_for_sliding_window(tuple(padded.shape[1:]), tuple(size), STEP)
        for corner in product(*steps):
            yield padded[(slice(None), *(slice(c, c + s) for c, s in zip(corner, size, strict=True)))]


def with_covariates(data: Tensor, told: Tensor) -> Tensor:
    """(B, C + V, ...): covariates (B, V) as further channels of (B, C, ...), constant over the axes."""
    constant = told.to(data).view(*told.shape, *(1,) * (data.ndim - 2))
    return torch.cat((data, constant.expand(-1, -1, *data.shape[2:])), 1)


@torch.inference_mode()
def case_outputs(
    network: nn.Module,
    image: Tensor,
    size: Sequence[int],
    device: torch.device,
    precision: str,
    covariates: Tensor | None = None,
    mirrored: Sequence[int] | None = None,
) -> Tensor:
    """(O,): the mean of the outputs of all patches of a preprocessed image (C, Z, Y, X), and of their mirrored forms.

    Args:
        network: in evaluation mode.
        image: with all channels that the network reads.
        size: of the patch, two or three axes.
        device: of the network.
        precision: of the recipe.
        covariates: (V,) of the case, for a network that reads them.
        mirrored: axes of the patch, from 0 on, that are mirrored alone and together; None for none.
    """
    forms = mirrorings(mirrored)
    total, count = torch.zeros(1), 0
    waiting: list[Any] = []
    for patch in patches(image, size):
        waiting.append(patch if covariates is None else with_covariates(patch[None], covariates[None])[0])
        if len(waiting) == AT_ONCE:
            total, count = total + _sum(network, waiting, forms, device, precision), count + len(waiting)
            waiting = []
    if waiting:
        total, count = total + _sum(network, waiting, forms, device, precision), count + len(waiting)
    return total / count


def mirrorings(axes: Sequence[int] | None) -> list[tuple[int, ...]]:
    """The axes of a batch (B, C, ...) that each form mirrors: the image as it is, then all sets of the patch's axes."""
    places = [axis + 2 for axis in axes or ()]
    return list(chain.from_iterable(combinations(places, count) for count in range(len(places) + 1)))


def _sum(
    network: nn.Module, group: list[Tensor], forms: Sequence[tuple[int, ...]], device: torch.device, precision: str
) -> Tensor:
    """(O,): the sum over patches of the means over forms."""
    batch = torch.stack(group).to(device)
    found = []
    for axes in forms:
        with loss_context(device, precision):
            outputs: Tensor = network(batch.flip(axes) if axes else batch)
        found.append(outputs.float().sum(0).cpu())
    return torch.stack(found).mean(0)
