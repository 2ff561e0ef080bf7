"""From the detector's mask to the crops that the segmentation network will see."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray

from nnunet_ext.cascade.geometry import Box, as_lists, crops_over, dilate, inside, shift
from nnunet_ext.cascade.settings import CascadeSettings

MM3_PER_ML = 1000
TOO_SMALL, TOO_MANY = "smaller than min_component_ml", "beyond max_components"


@dataclass(frozen=True)
class Component:
    """A connected part of the mask (26 neighbours), largest first.

    Attributes:
        box: around it, with the margin.
        ml: its volume, without the margin.
        dropped: why it gets no crop; empty if it gets one.
        crops: numbers of the crops that cover it.
    """

    box: Box
    ml: float
    dropped: str = ""
    crops: tuple[int, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For JSON; boxes are [[start, stop], ...] along z, y, x in voxels of the preprocessed volume."""
        kept = {"dropped": self.dropped} if self.dropped else {"crops": list(self.crops)}
        return {"box": as_lists(self.box), "ml": round(self.ml, 4), **kept}


@dataclass(frozen=True)
class Crops:
    """What is computed of one volume.

    Attributes:
        components: each with the numbers of its crops.
        boxes: the crops, in voxels of the padded volume.
        offset: voxels of padding before the volume, along z, y, x.
    """

    components: tuple[Component, ...]
    boxes: tuple[Box, ...]
    offset: tuple[int, ...]


def find(mask: NDArray[np.bool_], spacing: Sequence[float], settings: CascadeSettings) -> list[Component]:
    """The components of a mask (Z, Y, X), largest first, with their margin and whether they are kept.

    Args:
        mask: where tumour is.
        spacing: of its voxels, mm (z, y, x).
        settings: see :class:`CascadeSettings`.
    """
    # cc3d 4.1.1 stops at some Boolean masks and misreads some views of larger arrays
    labels = cc3d.connected_components(np.ascontiguousarray(mask).view(np.uint8))
    statistics = cc3d.statistics(labels)
    sizes = statistics["voxel_counts"][1:]
    margin = [int(np.ceil(settings.margin_mm / s)) for s in spacing]
    found: list[Component] = []
    kept = 0
    for index in np.argsort(-sizes.astype(np.int64), kind="stable"):
        ml = float(sizes[index] * np.prod(spacing) / MM3_PER_ML)
        box = tuple(slice(int(s.start), int(s.stop)) for s in statistics["bounding_boxes"][index + 1])
        dropped = TOO_SMALL if ml < settings.min_component_ml else TOO_MANY if kept >= settings.max_components else ""
        found.append(Component(dilate(box, margin, mask.shape), ml, dropped))
        kept += not dropped
    return found


def cover(
    components: Sequence[Component], shape: Sequence[int], crop_size: Sequence[int], padded: Sequence[int], step: float
) -> Crops:
    """Crops for every component that is kept; one that lies in a crop of a larger one needs none of its own.

    Args:
        components: from :func:`find`, in voxels of the volume before it was padded.
        shape: of that volume.
        padded: of the volume after it was padded, equally on both sides, to the crop's size.
        crop_size: voxels (z, y, x).
        step: nnU-Net's step size, in crops.
    """
    offset = tuple((p - n) // 2 for p, n in zip(padded, shape, strict=True))
    boxes: list[Box] = []
    done = []
    for component in components:
        if component.dropped:
            done.append(component)
            continue
        box = shift(component.box, offset)
        if not any(inside(box, crop) for crop in boxes):
            boxes += [crop for crop in crops_over(box, crop_size, padded, step) if crop not in boxes]
        done.append(replace(component, crops=tuple(i for i, crop in enumerate(boxes) if _touch(box, crop))))
    return Crops(tuple(done), tuple(boxes), offset)


def _touch(box: Box, other: Box) -> bool:
    return all(b.start < o.stop and o.start < b.stop for b, o in zip(box, other, strict=True))
