"""Weights of a classifier of photographs in an encoder for volumes or for other channels.

Inflation (Carreira and Zisserman 2017, I3D, arXiv:1705.07750): a kernel is repeated along the new axis and divided by
its length, so that a volume of equal slices gives what the slice gave. Channels: the mean over the file's channels for
each of the network's, scaled so that an image that is the same in all channels gives what it gave.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from nnunet_ext.networks.interop import Import

WRAPPED = ("module.", "_orig_mod.")
ENCODER = "encoder."


def import_encoder(network: nn.Module, state: Mapping[str, Tensor]) -> Import:
    """Fits a classifier's state dict to a network's encoder, which is not changed; heads keep their initial values.

    Args:
        network: with an ``encoder`` whose modules are named as the file's, directly or below ``model``.
        state: names and tensors of the file.
    """
    result = Import({name: value.clone() for name, value in network.state_dict().items()})
    for key, value in state.items():
        bare = key
        for prefix in WRAPPED:
            bare = bare.removeprefix(prefix)
        name = next((n for n in (f"{ENCODER}{bare}", f"{ENCODER}model.{bare}") if n in result.weights), None)
        if name is None:
            result.unused.append(key)
            continue
        found = fitted(value, result.weights[name])
        if found is None:
            result.shape_differs[name] = tuple(value.shape)
        else:
            result.weights[name].copy_(found)
            result.matched.append(name)
    taken = {*result.matched, *result.shape_differs}
    result.missing = [name for name in result.weights if name not in taken]
    return result


def fitted(value: Tensor, target: Tensor) -> Tensor | None:
    """The tensor in the shape of another, inflated and spread over channels where that is needed; None if it cannot."""
    if value.ndim == 4 and target.ndim == 5:
        depth = target.shape[2]
        value = value.unsqueeze(2).expand(-1, -1, depth, -1, -1) / depth
    if value.ndim > 2 and value.ndim == target.ndim and value.shape[1] != target.shape[1]:
        value = with_channels(value, target.shape[1])
    return value if value.shape == target.shape else None


def with_channels(kernel: Tensor, channels: int) -> Tensor:
    """A kernel (O, I, ...) for so many input channels."""
    spread = kernel.mean(1, keepdim=True) * kernel.shape[1] / channels
    return spread.expand(-1, channels, *kernel.shape[2:])
