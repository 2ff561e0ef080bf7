"""Which preprocessed data two plans have in common."""

from collections.abc import Mapping
from typing import Any

# what nnU-Net's preprocessing reads of the plans, and of a configuration
OF_PLANS = ("image_reader_writer", "transpose_forward", "foreground_intensity_properties_per_channel")
OF_CONFIGURATION = (
    "preprocessor_name",
    "spacing",
    "normalization_schemes",
    "use_mask_for_norm",
    "resampling_fn_data",
    "resampling_fn_data_kwargs",
    "resampling_fn_seg",
    "resampling_fn_seg_kwargs",
)


def share_data(plans: dict[str, Any], base: Mapping[str, Any]) -> None:
    """Lets configurations use the preprocessed data of the same configuration of other plans, where they are the same.

    Args:
        plans: changed in place.
        base: the plans whose data exist, as read from their file.
    """
    if any(plans[key] != base[key] for key in OF_PLANS):
        return
    for name, configuration in plans["configurations"].items():
        other = base["configurations"].get(name, {})
        if "spacing" in configuration and all(configuration[key] == other.get(key) for key in OF_CONFIGURATION):
            configuration["data_identifier"] = other["data_identifier"]
