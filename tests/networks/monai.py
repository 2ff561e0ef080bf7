"""MONAI's UNETR and SwinUNETR as oracles: random weights in both, through the names of the import."""

import torch

from nnunet_ext.networks.interop import import_monai
from nnunet_ext.networks.topology import Topology
from tests.networks import plans

CHANNELS, CLASSES = 2, 3
TOLERANCE = 1e-4  # of the largest logit


def topology(dims, stages, patch=None):
    """Operators as MONAI has them: norms without parameters, convolutions without bias."""
    plan = {**plans.isotropic(dims, stages), "conv_bias": False, "norm_op_kwargs": {"affine": False}}
    return Topology.from_plan(plan, patch)


def randomise(network):
    """No parameter keeps an initial value under which a wrong body could hide; scales keep the signal alive."""
    generator = torch.Generator().manual_seed(2)
    for name, parameter in network.named_parameters():
        values = torch.randn(parameter.shape, generator=generator)
        wide = parameter.ndim == 1 or "bias_table" in name or "position" in name
        parameter.data = values if wide else values * (2 / parameter[0].numel() ** 0.5)
    return network


def twin(oracle, network):
    """``network`` with the oracle's weights; every one but the heads of deep supervision comes from the oracle."""
    imported = import_monai(network, randomise(oracle).state_dict())
    network.load_state_dict(imported.weights)
    assert not imported.shape_differs
    assert all(name.startswith("decoder.seg_layers") for name in imported.missing)
    return network.eval()


@torch.no_grad()
def difference(oracle, network, size, batch=2):
    """Largest difference of the logits, as a part of the largest logit."""
    x = plans.image(size, CHANNELS, batch)
    expected, found = oracle.eval()(x), network(x)
    assert expected.std() > 0.1
    return ((expected - found).abs().max() / expected.abs().max()).item()
