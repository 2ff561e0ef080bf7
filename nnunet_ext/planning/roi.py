"""The two configurations of the ROI cascade, for any plans of nnU-Net.

``3d_roi`` sees the whole brain in one patch, ``3d_crop`` trains a network at the size of the cascade's crops on the
data of ``3d_fullres``. Both are ordinary configurations: nnU-Net's commands preprocess, train and predict them.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from math import prod
from typing import Any

import numpy as np
from nnunetv2.experiment_planning.experiment_planners.network_topology import get_pool_and_conv_props
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from numpy.typing import ArrayLike

ROI, CROP, BASE = "3d_roi", "3d_crop", "3d_fullres"
MIN_EDGE = 4  # nnU-Net's smallest edge of a feature map
MIN_BATCH = 2  # nnU-Net's smallest
MAX_CHANNELS = 320  # nnU-Net's in 3D
# nnU-Net's resampling by torch: its splines take seconds a case, more than the detector itself
RESAMPLING = "resample_torch_fornnunet"
DEPTHS = ("n_conv_per_stage", "n_blocks_per_stage", "n_conv_per_stage_decoder")


def with_cascade(
    plans: Mapping[str, Any], fingerprint: Mapping[str, Any], size: Sequence[int], crop: Sequence[int]
) -> dict[str, Any]:
    """The plans with both configurations; earlier ones of these names are replaced.

    Args:
        plans: as read from their file.
        fingerprint: ``dataset_fingerprint.json``.
        size: patch of the detector, voxels (z, y, x).
        crop: patch of the crops, voxels (z, y, x).

    Raises:
        ValueError: the plans have no ``3d_fullres``, or a size that the strides do not divide.
    """
    if BASE not in plans["configurations"]:
        raise ValueError(f"The plans have no configuration {BASE}, on which the cascade rests; plan it first.")
    if len(size) != 3 or len(crop) != 3:
        raise ValueError(f"The cascade is three-dimensional; give three numbers, not {list(size)} and {list(crop)}.")
    base = PlansManager({**plans}).get_configuration(BASE).configuration
    configurations = {ROI: roi_configuration(plans, base, fingerprint, size), CROP: crop_configuration(base, crop)}
    return {**plans, "configurations": {**plans["configurations"], **configurations}}


def roi_spacing(shapes: ArrayLike, spacings: ArrayLike, size: Sequence[int], finest: float) -> float:
    """The finest isotropic spacing in mm at which every brain fits the size, but none finer than ``finest``.

    Args:
        shapes: of the brains, voxels (z, y, x).
        spacings: of their images, mm (z, y, x).
        size: voxels (z, y, x) that they must fit.
        finest: in mm; magnifying an image tells a network nothing.
    """
    extents = np.max(np.multiply(shapes, spacings), 0)
    return max(float(np.max(extents / np.asarray(size))), finest)


def roi_configuration(
    plans: Mapping[str, Any], base: Mapping[str, Any], fingerprint: Mapping[str, Any], size: Sequence[int]
) -> dict[str, Any]:
    """The entry ``3d_roi``; see :func:`with_cascade`."""
    order = plans["transpose_forward"]
    shapes, spacings = (np.asarray(fingerprint[key])[:, order] for key in ("shapes_after_crop", "spacings"))
    spacing = roi_spacing(shapes, spacings, size, min(base["spacing"]))
    _, strides, kernels, _, divisors = get_pool_and_conv_props([spacing] * 3, list(size), MIN_EDGE, 999)
    _check("--size", size, divisors)
    median = np.median(shapes * spacings / spacing, 0)
    return {
        "inherits_from": BASE,
        "data_identifier": f"{plans['plans_name']}_{ROI}",
        "spacing": [spacing] * 3,
        "patch_size": [int(n) for n in size],
        "median_image_size_in_voxels": [float(n) for n in median],
        "architecture": _architecture(base["architecture"], strides, kernels),
        **_resampling(),
    }


def crop_configuration(base: Mapping[str, Any], crop: Sequence[int]) -> dict[str, Any]:
    """The entry ``3d_crop``; strides stay, so weights of ``3d_fullres`` fit.

    The batch is that of ``3d_fullres``, or smaller, so that it holds no more voxels: activations grow with them, and
    the memory that the plans were made for was that of ``3d_fullres``. nnU-Net's smallest batch stays.
    """
    _check("--crop", crop, np.prod(base["architecture"]["arch_kwargs"]["strides"], 0))
    room = prod(base["patch_size"]) * base["batch_size"] // prod(crop)
    batch = min(base["batch_size"], max(room, MIN_BATCH))
    return {"inherits_from": BASE, "patch_size": [int(n) for n in crop], "batch_size": int(batch)}


def times_planned(plans: Mapping[str, Any], name: str = CROP) -> float:
    """How many times the voxels of a batch of ``3d_fullres`` a batch of another configuration holds."""
    manager = PlansManager({**plans})
    planned, base = (manager.get_configuration(n) for n in (name, BASE))
    return float(prod(planned.patch_size) * planned.batch_size / (prod(base.patch_size) * base.batch_size))


def _architecture(base: Mapping[str, Any], strides: Sequence[Any], kernels: Sequence[Any]) -> dict[str, Any]:
    """nnU-Net's own network for other strides; the depths are those of the base, stage by stage."""
    found, stages = deepcopy(dict(base)), len(strides)
    kwargs = found["arch_kwargs"]
    kwargs |= {"n_stages": stages, "strides": strides, "kernel_sizes": kernels}
    for key in DEPTHS:
        if depths := kwargs.get(key):
            count = stages - key.endswith("decoder")  # it has no lowest stage
            kwargs[key] = [depths[min(i, len(depths) - 1)] for i in range(count)]
    first = kwargs["features_per_stage"][0]
    kwargs["features_per_stage"] = [min(first * 2**i, MAX_CHANNELS) for i in range(stages)]
    return found


def _resampling() -> dict[str, Any]:
    options = {"is_seg": False, "force_separate_z": False, "memefficient_seg_resampling": False}
    return {
        **dict.fromkeys(("resampling_fn_data", "resampling_fn_seg", "resampling_fn_probabilities"), RESAMPLING),
        "resampling_fn_data_kwargs": options,
        "resampling_fn_seg_kwargs": {**options, "is_seg": True},
        "resampling_fn_probabilities_kwargs": options,
    }


def _check(option: str, size: Sequence[int], divisors: Sequence[int]) -> None:
    legal = [max(1, -(-int(n) // int(d))) * int(d) for n, d in zip(size, divisors, strict=True)]
    if legal != list(size):
        raise ValueError(
            f"{option} {' '.join(map(str, size))} does not divide by the strides {[int(d) for d in divisors]}; the "
            f"next legal size is {' '.join(map(str, legal))}."
        )
