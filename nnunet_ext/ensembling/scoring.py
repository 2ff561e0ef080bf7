"""Dice of an ensemble for any weights, from what is left of a case when all that no weight can change is counted.

Where all models agree any weighted mean agrees with them. Those voxels are counted once; the others, a small part of a
volume, are kept with every model's probabilities, and thousands of weights are tried on them. The result is that of the
whole volumes to the last voxel, for both go through the same sums.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nnunet_ext.ensembling.outputs import Outputs
from nnunet_ext.ensembling.probabilities import Volume, merge, shares_of
from nnunet_ext.evaluation.surfaces import Mask

Weights = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Decisive:
    """What weights can change in a case, and the counts of the rest. M models, C channels, T regions, n voxels.

    Attributes:
        probabilities: (M, C, n).
        truth: (T, n).
        reference: (T,), voxels of the reference, all of them.
        by_map: (T, 2), voxels elsewhere that the label map has in the region, and those of them that the reference has.
        by_channel: (T, 2), the same of the channels' own masks; that of the label map for networks for plain labels.
    """

    probabilities: Volume
    truth: Mask
    reference: Counts
    by_map: Counts
    by_channel: Counts

    @classmethod
    def of(cls, outputs: Outputs, volumes: Sequence[Volume], truth: NDArray[np.integer]) -> "Decisive":
        """From whole volumes (C, Z, Y, X), one a model, and the reference's labels (Z, Y, X)."""
        counted = np.ones(truth.shape, bool) if outputs.scheme.ignore is None else truth != outputs.scheme.ignore
        masks = outputs.masks(truth) & counted
        undecided = outputs.undecided(volumes) & counted
        elsewhere = counted & ~undecided
        by_map = outputs.masks(outputs.label_map(volumes[0]))  # elsewhere any model will do
        own = outputs.own_masks(volumes[0])
        return cls(
            np.stack([volume[:, undecided] for volume in volumes]),
            masks[:, undecided],
            masks.sum(axis=(1, 2, 3)),
            _counts(by_map & elsewhere, masks),
            _counts(own & elsewhere, masks),
        )

    def dice(self, outputs: Outputs, weights: Weights) -> NDArray[np.float64]:
        """(T,), of the label map that weights (M, C) make, as ``nnunet_ext evaluate`` counts it."""
        merged = merge(self.probabilities, shares_of(weights)[:, :, None])
        return self._dice(outputs.masks(outputs.label_map(merged)), np.arange(len(self.truth)), self.by_map)

    def own_dice(self, outputs: Outputs, group: str, weights: Weights) -> NDArray[np.float64]:
        """(T',), of the regions by which the weights (M,) of ``group`` are chosen."""
        channels = list(outputs.channels[group])
        merged = merge(self.probabilities[:, channels], shares_of(weights)[:, None, None])
        names = list(outputs.targets)
        rows = np.array([names.index(name) for name in outputs.scored[group]])
        return self._dice(outputs.own_masks(merged), rows, self.by_channel)

    def _dice(self, masks: Mask, rows: NDArray[np.intp], elsewhere: Counts) -> NDArray[np.float64]:
        predicted, common = (elsewhere[rows] + _counts(masks, self.truth[rows])).T
        total = predicted + self.reference[rows]
        return np.divide(2.0 * common, total, out=np.ones(len(rows)), where=total > 0)  # both empty: 1

    def save(self, path: Path) -> None:
        """Into a file of numpy."""
        np.savez(path, **vars(self))

    @classmethod
    def load(cls, path: Path) -> "Decisive":
        """What :meth:`save` wrote."""
        with np.load(path) as file:
            return cls(**file)


def _counts(masks: Mask, truth: Mask) -> Counts:
    """(T, 2), voxels of the masks (T, ...), and those of them in the reference."""
    axes = tuple(range(1, masks.ndim))
    return np.stack([masks.sum(axis=axes), (masks & truth).sum(axis=axes)], axis=1)
