"""MONAI's UNETR and SwinUNETR as oracles: random weights in both, through the names of the import."""

import torch

from nnunet_ext.networks.interop import import_monai
from nnunet_ext.networks.topology import Topology
from tests.networks import oracles, plans

CHANNELS, CLASSES = 2, 3
TOLERANCE = 1e-4  # of the largest logit


def topology(dims, stages, patch=None):
    """Operators as MONAI has them: norms without parameters, convolutions without bias."""
    plan = {**plans.isotropic(dims, stages), "conv_bias": False, "norm_op_kwargs": {"affine": False}}
    return Topology.from_plan(plan, patch)


def twin(oracle, network):
    """``network`` with the oracle's weights; every one but the heads of deep supervision comes from the oracle."""
    imported = import_monai(network, oracles.randomise(oracle).state_dict())
    network.load_state_dict(imported.weights)
    assert not imported.shape_differs
    assert all(name.startswith("decoder.seg_layers") for name in imported.missing)
    return network.eval()


@torch.no_grad()
def outputs(network, oracle, size, batch=2):
    """Logits of both, in units of the oracle's largest."""
    x = plans.image(size, CHANNELS, batch)
    expected = oracle(x)
    largest = expected.abs().max()
    assert expected.std() > 0.1 * largest
    return network(x) / largest, expected / largest
