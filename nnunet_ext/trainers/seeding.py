"""Runs that can be repeated."""

import random
from collections.abc import Iterator

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.random import RandomTransform


def seed_everything(seed: int) -> None:
    """Seeds Python's, NumPy's and torch's generators."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def leaves(transform: BasicTransform) -> Iterator[BasicTransform]:
    """The transforms inside compositions and random applications."""
    if isinstance(transform, ComposeTransforms):
        for inner in transform.transforms:
            yield from leaves(inner)
    elif isinstance(transform, RandomTransform):
        yield from leaves(transform.transform)
    else:
        yield transform


def without_timed_choices(transform: BasicTransform) -> BasicTransform:
    """Makes the blur always convolve directly: its choice between two algorithms is timed, so it varies."""
    for leaf in leaves(transform):
        if isinstance(leaf, GaussianBlurTransform):
            leaf.benchmark = False
    return transform
