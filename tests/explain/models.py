"""Predictors whose network is built for the test, model folders, and cases with references."""

from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from torch import nn

from benchmarks.contributions import dataset_json, predictor_of, properties
from nnunet_ext.explain.cases import Case
from tests.cascade import models
from tests.trainers import workspace

SHAPE = workspace.SHAPE  # larger than the patch on two axes: several tiles


class Reads(nn.Module):
    """Background 0, and class k where one channel is above a threshold: it depends on that channel alone."""

    def __init__(self, *channels):
        super().__init__()
        self.channels = channels
        self.scale = nn.Parameter(torch.tensor(4.0))

    def forward(self, x):
        logits = [self.scale * (x[:, c] - 1) for c in self.channels]
        return torch.stack([torch.zeros_like(logits[0]), *logits], 1)


class Together(nn.Module):
    """Class 1 where the channels 0 and 1 are bright together; 2 helps alone, 3 is never read."""

    def forward(self, x):
        odds = x[:, 0] * x[:, 1] + 0.5 * x[:, 2] - 1
        return torch.stack([torch.zeros_like(odds), odds], 1)


def labelled(*names, channels=workspace.FOUR):
    """A dataset of these classes."""
    found = dataset_json()
    found["channel_names"] = {str(i): name for i, name in enumerate(channels)}
    found["labels"] = {"background": 0, **{name: i for i, name in enumerate(names, 1)}}
    return found


def predictor(network, dataset=None):
    return predictor_of(network, dataset or labelled("tumor"))


def case(channels=4, shape=SHAPE, seed=0, bright=None):
    """Noise, in which one channel (or all) has a bright box; gives the case and the box as the reference."""
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(channels, *shape)).astype(np.float32) * 0.5
    reference = np.zeros(shape, np.uint8)
    reference[4:14, 5:12, 3:11] = 1
    for channel in range(channels) if bright is None else [bright]:
        image[channel] += 2 * reference
    return Case(f"case{seed}", torch.tensor(image), properties(shape)), reference


def write_reference(folder: Path, name, shape=(22, 20, 18), labels=(1, 2, 3)):
    """Nested boxes of the labels; returns (Z, Y, X)."""
    folder.mkdir(parents=True, exist_ok=True)
    reference = np.zeros(shape, np.uint8)
    for depth, label in enumerate(labels):
        reference[4 + 2 * depth : 18 - 2 * depth, 4 + depth : 16 - depth, 4 + depth : 15 - depth] = label
    nib.save(nib.Nifti1Image(reference.transpose(2, 1, 0), np.eye(4)), folder / f"{name}.nii.gz")
    return reference


def write_cases(root: Path, *names):
    """Images and references of cases, as nnU-Net's raw datasets have them: folders (images, labels)."""
    for seed, name in enumerate(names):
        models.write_case(root / "images", name, seed=seed)
        write_reference(root / "labels", name)
    return root / "images", root / "labels"
