"""Runs that can be repeated."""

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

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


# the streams of random numbers of one run: same seed, rank and index, other numbers
STEPS, TRAINING, VALIDATION = range(3)


def seed_generators(*key: int) -> None:
    """Seeds Python's, NumPy's and torch's generators, all devices included, by a key of several numbers."""
    torch.manual_seed(_seed_host(*key))


def _seed_host(*key: int) -> int:
    """Seeds Python's and NumPy's generators; returns the seed for torch's."""
    words = np.random.SeedSequence(key).generate_state(6)
    np.random.seed(words[:4])
    random.seed(int(words[4]))
    return int(words[4]) << 31 | int(words[5]) >> 1


@contextmanager
def borrowed_generators(*key: int) -> Iterator[None]:
    """The CPU's generators, seeded by a key, and afterwards as if they had not been used."""
    before = np.random.get_state(), random.getstate(), torch.get_rng_state()
    torch.default_generator.manual_seed(_seed_host(*key))
    try:
        yield
    finally:
        np.random.set_state(before[0])
        random.setstate(before[1])
        torch.set_rng_state(before[2])


def repeat_on_gpu() -> None:
    """Makes CUDA's kernels repeat, where torch has such; it warns of the others.

    nnU-Net switches cuDNN's choice by measurement on before a training starts, so this is called afterwards.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS demands it for repeatable products
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.use_deterministic_algorithms(True, warn_only=True)


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
