"""3D Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391, ICCV) of nnU-Net's sliding-window prediction of a whole case.

A map is made of a layer's activations A_k and the gradients of a class's score: ReLU(sum_k alpha_k A_k), with alpha_k
the mean of the gradients over all places. For a segmentation the score is the sum of the class's logits over a set of
voxels (Vinogradova et al. 2020, arXiv:2002.11434, AAAI).

Through the window there is one score, that of the merged logits, so each tile's logits enter it with their share of the
Gaussian weights. Its gradients with respect to the layer in all tiles are pooled to one alpha a channel for the whole
case; only then are the activations, merged with the same Gaussian weights, weighed. Nothing is scaled in a tile: tiles
that see nothing of the class stay dark, and where tiles meet there is no seam but what the network itself gives at the
edges of its input. Merging activations and weighing them with the alphas of the case commute, so that one map is kept
for a class and layer and not the activations of all channels.

Where all that reads a layer is a convolution of one voxel and an instance normalisation, as at the end of a branch, the
mean of the gradients is 0 whatever the score: a normalised map does not change when a constant is added to its input.
Grad-CAM is rounding noise there and is refused. HiResCAM (Draelos and Carin 2020, arXiv:2011.08891) does not take the
mean: sum_k (gradient of A_k) A_k, place by place. The gradients of the tiles carry their shares already.

Single precision throughout, without autocast: gradients vanish in half precision.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from torch import Tensor, nn
from torch.nn.functional import interpolate

from nnunet_ext.explain.regions import Region
from nnunet_ext.explain.watching import Watched
from nnunet_ext.explain.window import Place, Window, bare

LINEAR = {2: "bilinear", 3: "trilinear"}  # by number of spatial dimensions
VOID = 1e-5
"""Of the mean size of the gradients: a mean below is what rounding leaves of 0."""
Key = tuple[str, str]
"""Of a map: region, layer."""
Step = Callable[[], object]


@dataclass(frozen=True)
class Score:
    """What is explained: the sum of a region's merged logits over these voxels (Z, Y, X) of the preprocessed volume."""

    region: Region
    voxels: Tensor


def logits_of(predictor: nnUNetPredictor, data: Tensor) -> Tensor:
    """nnU-Net's merged logits (K, Z, Y, X) for preprocessed data (C, Z, Y, X)."""
    # moved by nnU-Net, within inference mode, the parameters could not be differentiated by afterwards
    bare(predictor.network).to(predictor.device)
    logits: Tensor = predictor.predict_logits_from_preprocessed_data(data)
    return logits.float().clone()


def gradcam(
    predictor: nnUNetPredictor,
    data: Tensor,
    scores: Sequence[Score],
    layers: Sequence[str],
    step: Step = lambda: None,
    *,
    method: str = "gradcam",
) -> dict[Key, Tensor]:
    """The maps of a case before the ReLU, neither scaled nor cut off.

    Args:
        predictor: with the weights of one fold; it does not mirror.
        data: (C, Z, Y, X), preprocessed.
        scores: of the regions that are explained.
        layers: names of modules whose maps are at one of the plan's resolutions.
        step: called after each pass over a tile, of which there are :func:`passes`.
        method: ``gradcam`` or ``hirescam``.

    Returns:
        (region's name, layer) -> (Z, Y, X). Positive where the layer speaks for the region.

    Raises:
        ValueError: Grad-CAM at a layer where the mean of the gradients vanishes.
    """
    network = bare(predictor.network).to(predictor.device).eval()
    window = Window(predictor, data)
    with torch.enable_grad():
        if method == "hirescam":
            return place_weighed_maps(network, window, scores, layers, step)
        alphas = channel_weights(network, window, scores, layers, step)
    with torch.no_grad():
        return weighed_maps(network, window, alphas, step)


def passes(method: str) -> int:
    """Over every tile."""
    return 1 if method == "hirescam" else 2


@dataclass(frozen=True)
class TileGradient:
    """Of a region's score with respect to a layer in a tile; the map and its gradient are (C, ...)."""

    key: Key
    place: Place
    map: Tensor
    gradient: Tensor


def tile_gradients(
    network: nn.Module, window: Window, scores: Sequence[Score], layers: Sequence[str], step: Step
) -> Iterator[TileGradient]:
    """For every tile, region and layer."""
    voxels = [window.padded(score.voxels) for score in scores]
    for place, tile in window.tiles():
        shares = [window.share(place) * of[place[1:]] for of in voxels]
        with Watched(network, layers) as seen:
            logits = network(tile)[0]
        maps = [seen.maps[layer] for layer in layers]
        for score, share in zip(scores, shares, strict=True):
            gradients = _gradients((logits[score.region.head] * share.to(logits)).sum(), maps)
            for layer, map_, gradient in zip(layers, maps, gradients, strict=True):
                yield TileGradient((score.region.name, layer), place, map_[0].detach(), gradient[0])
        step()


def channel_weights(
    network: nn.Module, window: Window, scores: Sequence[Score], layers: Sequence[str], step: Step = lambda: None
) -> dict[Key, Tensor]:
    """For each region and layer alpha (C,): the mean over the case's places of the gradient of the region's score.

    Raises:
        ValueError: it vanishes.
    """
    total: dict[Key, Tensor] = {}
    size: dict[Key, Tensor] = {}
    for of in tile_gradients(network, window, scores, layers, step):
        # the volume has as many places as it has voxels, at the layer's resolution
        places = window.total.numel() * of.gradient[0].numel() / window.weights.numel()
        flat = of.gradient.flatten(1).double() / places
        total[of.key] = total.get(of.key, 0) + flat.sum(1)
        size[of.key] = size.get(of.key, 0) + flat.abs().sum(1)
    for (_, layer), alpha in total.items():
        _check_alpha(layer, alpha, torch.stack([s for key, s in size.items() if key[1] == layer]).max())
    return total


def _check_alpha(layer: str, alpha: Tensor, size: Tensor) -> None:
    if size > 0 and alpha.abs().max() < VOID * size:
        raise ValueError(
            f"At {layer} the mean of the gradients vanishes, since instance normalisation follows it, so Grad-CAM is "
            "rounding noise there; give --method hirescam or another --layer."
        )


def _gradients(score: Tensor, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Of the score with respect to each map; 0 for one that it does not depend on."""
    found: tuple[Tensor, ...] = torch.autograd.grad(
        score, maps, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return found


def place_weighed_maps(
    network: nn.Module, window: Window, scores: Sequence[Score], layers: Sequence[str], step: Step = lambda: None
) -> dict[Key, Tensor]:
    """HiResCAM: for each region and layer the activations, each place weighed by its own gradient: (Z, Y, X)."""
    merged: dict[Key, Tensor] = {}
    for of in tile_gradients(network, window, scores, layers, step):
        full = at_size((of.gradient * of.map).sum(0), window.weights.shape).cpu()
        merged.setdefault(of.key, torch.zeros(window.shape))[of.place[1:]] += full
    return {key: window.without_padding(map_) for key, map_ in merged.items()}


def weighed_maps(
    network: nn.Module, window: Window, alphas: Mapping[Key, Tensor], step: Step = lambda: None
) -> dict[Key, Tensor]:
    """For each region and layer the activations weighed by alpha, merged over the tiles: (Z, Y, X)."""
    layers = list(dict.fromkeys(layer for _, layer in alphas))
    merged = {key: torch.zeros(window.shape) for key in alphas}
    for place, tile in window.tiles():
        with Watched(network, layers) as seen:
            network(tile)
        for (region, layer), alpha in alphas.items():
            weighed = torch.tensordot(alpha.to(seen.maps[layer]), seen.maps[layer][0], 1)
            full = at_size(weighed, tile.shape[2:]).cpu()
            merged[region, layer][place[1:]] += full * window.share(place)
        step()
    return {key: window.without_padding(map_) for key, map_ in merged.items()}


def at_size(map_: Tensor, size: Sequence[int]) -> Tensor:
    """A map (Z, Y, X) or (Y, X) linearly interpolated to this size."""
    if map_.shape == tuple(size):
        return map_
    return interpolate(map_[None, None], tuple(size), mode=LINEAR[map_.ndim])[0, 0]


def normalised(maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What is positive, divided by the largest value of all the maps: branches of one region are on one scale.

    Maps without anything positive are 0.
    """
    positive = {name: map_.clamp(min=0) for name, map_ in maps.items()}
    largest = max((float(map_.max()) for map_ in positive.values()), default=0.0)
    return {name: map_ / largest if largest > 0 else map_ for name, map_ in positive.items()}
