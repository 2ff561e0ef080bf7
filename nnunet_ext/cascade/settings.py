"""What can be set about the cascade. docs/cascade.md has the table of recall against crops behind the defaults."""

import math
from dataclasses import dataclass

MERGES = ("max", "gaussian")


@dataclass(frozen=True)
class CascadeSettings:
    """How a tumour mask becomes crops, and crops become logits.

    Attributes:
        crop_size: voxels (z, y, x) of the preprocessed volume; None for the patch of the segmentation network's plan.
        max_components: so many of the largest components of the mask get crops.
        min_component_ml: smaller components get none.
        roi_threshold: a voxel with a higher probability of tumour is in the mask; 0 to 1.
        margin_mm: by so much a component's box is larger than the component, on every side.
        merge: where crops overlap, ``max`` takes the voxel-wise maximum of the logits, ``gaussian`` nnU-Net's weights.

    Raises:
        ValueError: a value out of its range.
    """

    crop_size: tuple[int, ...] | None = (96, 96, 96)
    max_components: int = 5
    min_component_ml: float = 0.1
    roi_threshold: float = 0.3
    margin_mm: float = 10.0
    merge: str = "max"

    def __post_init__(self) -> None:
        if self.crop_size is not None and (len(self.crop_size) != 3 or min(self.crop_size) < 1):
            raise ValueError(f"The crop size must be three positive numbers of voxels (z y x), not {self.crop_size}.")
        if self.max_components < 1:
            raise ValueError(f"At least one component must be kept, not {self.max_components}.")
        if not 0 <= self.roi_threshold < 1:
            raise ValueError(f"The threshold is a probability, from 0 to below 1, not {self.roi_threshold:g}.")
        for name, value in (("smallest component", self.min_component_ml), ("margin", self.margin_mm)):
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"The {name} must not be negative, not {value:g}.")
        if self.merge not in MERGES:
            raise ValueError(f"Crops are merged by {' or '.join(MERGES)}, not by {self.merge!r}.")
