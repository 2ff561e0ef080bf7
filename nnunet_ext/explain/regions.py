"""What a network segments: the regions or classes of its dataset, each with its logit map."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Region:
    """A region, or a class where the dataset has no regions.

    Attributes:
        name: as in dataset.json.
        head: index of its logit map.
        labels: of its voxels in a segmentation.
        background: index of the logit map of the background in a softmax; None where each region has a sigmoid.
    """

    name: str
    head: int
    labels: tuple[int, ...]
    background: int | None

    def mask(self, segmentation: NDArray[Any]) -> NDArray[np.bool_]:
        """Its voxels in a segmentation (Z, Y, X)."""
        return np.isin(segmentation, self.labels)

    def predicted(self, logits: Tensor) -> Tensor:
        """Where its own logits (K, Z, Y, X) say that it is: above the background's, or above 0 for a sigmoid.

        Unlike the segmentation, which the other classes share in, this depends on no head but its own (and the
        background's).
        """
        return logits[self.head] > (0 if self.background is None else logits[self.background])


def regions_of(predictor: nnUNetPredictor) -> tuple[Region, ...]:
    """The regions of a predictor's dataset, in the order of dataset.json, background and ignored voxels left out."""
    labels = predictor.dataset_json["labels"]
    named = {name: _numbers(value) for name, value in labels.items() if name != "ignore"}
    named = {name: numbers for name, numbers in named.items() if set(numbers) != {0}}
    if predictor.label_manager.has_regions:
        return tuple(Region(name, head, numbers, None) for head, (name, numbers) in enumerate(named.items()))
    return tuple(Region(name, numbers[0], numbers, 0) for name, numbers in named.items())


def _numbers(value: int | Sequence[int]) -> tuple[int, ...]:
    return (int(value),) if isinstance(value, int) else tuple(int(v) for v in value)


def chosen(regions: Sequence[Region], names: Sequence[str]) -> tuple[Region, ...]:
    """The regions of these names, in the order of the names; all of them without a name.

    Raises:
        ValueError: there is none of a name; with the nearest.
    """
    known = {region.name: region for region in regions}
    if twice := next((name for name in names if list(names).count(name) > 1), None):
        raise ValueError(f"{twice!r} is named twice; once is enough.")
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"nearest: {near[0]!r}; " if near else ""
            raise ValueError(f"The network has no class {name!r}; {hint}it has {', '.join(map(repr, known))}.")
    return tuple(known[name] for name in names) or tuple(regions)


def check_labels(reference: NDArray[Any], dataset_json: Mapping[str, Any], what: str) -> None:
    """Refuses a reference with labels that the dataset has not.

    Raises:
        ValueError: with the labels.
    """
    legal = {number for value in dataset_json["labels"].values() for number in _numbers(value)} | {0}
    foreign = sorted({int(label) for label in np.unique(reference)} - legal)
    if foreign:
        raise ValueError(
            f"{what} has the label {', '.join(map(str, foreign))}; the labels of the network's dataset are "
            f"{', '.join(map(str, sorted(legal)))}."
        )
