"""A representative few of ``make learn``: a plain network, a light dual-branch one, a transformer."""

import pytest

from benchmarks import learn
from nnunet_ext.networks import registry


@pytest.mark.slow
@pytest.mark.parametrize("name", ["UNet3D_XS", "DualBranchGhost_XS"])
def test_it_overfits_a_phantom_with_its_own_recipe(name):
    spec, _ = registry.find(name)
    learned = learn.overfit(spec)
    assert min(learned.untrained.values()) < learn.GOAL / 2
    assert learned.passed, learned
