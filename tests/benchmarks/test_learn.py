"""A few very different networks learn; ``make learn`` does this with all of them."""

import argparse
import json

import pytest
import torch

from benchmarks import learn
from nnunet_ext.networks import registry
from tests.networks import tables

FEW = ("MobileUNETR_XS", "DualBranchShuffleV2_XS", "ROIUNet3D_Tiny")


@pytest.mark.parametrize("name", FEW)
def test_learns_a_phantom_with_its_recipe_for_overfitting(name):
    spec, size = registry.find(name)
    learned = learn.overfit(spec)
    assert learned.size == size
    assert learned.passed, learned
    assert min(learned.untrained.values()) < 0.5, "nothing was left to learn"


def test_the_committed_results_are_of_all_networks_with_the_recipes_of_the_table():
    rows = json.loads(tables.LEARNED.read_text(encoding="utf-8"))["results"]
    assert [(r["network"], r["recipe"]) for r in rows] == [
        (s.name, learn.overfitting_recipe(s)) for s in registry.specs()
    ]
    assert learn.markdown(rows) in tables.DOCUMENT.read_text(encoding="utf-8")


@pytest.mark.parametrize(("dims", "detector"), [(3, False), (3, True), (2, False)])
def test_what_a_network_is_shown(dims, detector):
    channels, regions = (7, 1) if detector else (4, 3)
    images, truth = learn.sample(dims, detector=detector)
    assert images.shape[1:] == (channels, *(64,) * dims)
    assert truth.shape[1:] == (regions, *(64,) * dims)
    assert len(images) == len(truth)
    assert truth.flatten(2).any(2)[:, 0].all(), "2D: only slices with tumour"
    if regions == 3:
        whole, core, enhancing = truth.unbind(1)
        assert (core & ~whole).sum() == (enhancing & ~core).sum() == 0
    assert not truth.all()


def test_dice_by_hand():
    logits, regions = torch.full((1, 3, 4), -1.0), torch.zeros(1, 3, 4, dtype=torch.bool)
    logits[0, 0, :2], regions[0, 0, 1:3] = 1, True
    regions[0, 1, 0] = True
    logits[0, 2, 3], regions[0, 2, 3] = 1, True
    assert learn.dice(logits, regions) == {"WT": 0.5, "TC": 0, "ET": 1}


def test_the_settings_of_a_recipe():
    assert learn.setting("initial_lr=1e-2") == ("initial_lr", 0.01)
    assert learn.setting("optimiser=SGD") == ("optimiser", "SGD")
    for wrong in ("optimiser=LBFGS", "momentum=0.9", "initial_lr", "initial_lr=fast"):
        with pytest.raises((argparse.ArgumentTypeError, ValueError)):  # argparse tells both in one sentence
            learn.setting(wrong)
