"""What the channels of the probabilities mean, what has weights of its own, and what is scored.

A network for regions has a channel a region, each decided by itself (above 0.5): each region has weights of its own. A
network for plain labels has a distribution over the classes a voxel, and the largest one wins: all classes share the
weights of a model, for with weights of their own they would be no distribution any more and the comparison between them
would favour one class.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from numpy.typing import NDArray

from nnunet_ext.ensembling.probabilities import Volume
from nnunet_ext.evaluation.regions import BRATS_REGIONS, Scheme, scheme_of_dataset
from nnunet_ext.evaluation.surfaces import Mask

ALL = "all classes"
HALF = 0.5
NEAR = 1e-4
"""Far above what single precision loses in a weighted mean."""


@dataclass(frozen=True)
class Outputs:
    """Channels and regions.

    Attributes:
        manager: nnU-Net's, which makes label maps of probabilities.
        channels: what has weights of its own -> its channels.
        targets: region -> its labels, in the order of the tables.
        scored: what has weights of its own -> regions by whose Dice they are chosen.
        scheme: what the labels mean.
    """

    manager: LabelManager
    channels: Mapping[str, tuple[int, ...]]
    targets: Mapping[str, tuple[int, ...]]
    scored: Mapping[str, tuple[str, ...]]
    scheme: Scheme

    @classmethod
    def of(cls, dataset: dict[str, Any], plans: dict[str, Any]) -> "Outputs":
        """From nnU-Net's dataset.json and plans.json."""
        manager = PlansManager(plans).get_label_manager(dataset)
        scheme = scheme_of_dataset(dataset)
        labels = {number: label for label, number in scheme.labels.items()}
        sets = {name: tuple(sorted(labels[n] for n in numbers)) for name, numbers in scheme.regions.items()}
        if manager.has_regions:
            names = {labels: name for name, labels in reversed(sets.items())}
            regions = [names[_labels_of(region)] for region in manager.foreground_regions]
            channels = {name: (channel,) for channel, name in enumerate(regions)}
            return cls(manager, channels, {n: sets[n] for n in regions}, {n: (n,) for n in regions}, scheme)
        chosen = [n for n in sets if n in BRATS_REGIONS or n == "RC"] if scheme.brats else list(sets)
        every = tuple(range(manager.num_segmentation_heads))
        return cls(manager, {ALL: every}, {n: sets[n] for n in chosen}, {ALL: tuple(chosen)}, scheme)

    @property
    def heads(self) -> int:
        """C, channels of a file of probabilities."""
        return int(self.manager.num_segmentation_heads)

    def label_map(self, probabilities: Volume) -> NDArray[np.integer]:
        """nnU-Net's labels (...) of probabilities (C, ...)."""
        made: NDArray[np.integer] = self.manager.convert_probabilities_to_segmentation(probabilities)
        return made

    def masks(self, labels: NDArray[np.integer]) -> Mask:
        """(T, ...), the regions of ``targets`` in a label map."""
        return np.stack([np.isin(labels, own) for own in self.targets.values()])

    def own_masks(self, probabilities: Volume) -> Mask:
        """(T', ...), the regions by which weights are chosen, from the channels (C', ...) that share them alone.

        A region of a network for regions is what its channel says, before the label map puts the regions into each
        other.
        """
        return probabilities > HALF if self.manager.has_regions else self.masks(self.label_map(probabilities))

    def undecided(self, volumes: Sequence[Volume]) -> Mask:
        """(Z, Y, X), the voxels at which the weights of the models matter: elsewhere all models say the same."""
        return _between(volumes) if self.manager.has_regions else _contested(volumes)


def _labels_of(region: int | Sequence[int]) -> tuple[int, ...]:
    return tuple(sorted(int(label) for label in (region if isinstance(region, Sequence) else (region,))))


def _between(volumes: Sequence[Volume]) -> Mask:
    """Where in any channel one model is above one half and another is not."""
    above = np.logical_or.reduce([volume > HALF - NEAR for volume in volumes])
    below = np.logical_or.reduce([volume <= HALF + NEAR for volume in volumes])
    found: Mask = (above & below).any(axis=0)
    return found


def _contested(volumes: Sequence[Volume]) -> Mask:
    """Where the largest class is not the same in all models, or not clearly the largest in one."""
    first = volumes[0].argmax(axis=0)
    found = np.zeros(first.shape, bool)
    for volume in volumes:
        second, largest = np.partition(volume, -2, axis=0)[-2:]
        found |= (volume.argmax(axis=0) != first) | (largest - second < NEAR)
    return found
