"""Every family under DDP, with and without deep supervision: each parameter is heard of, or the second step fails."""

import pytest
import torch
from torch import distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from nnunet_ext.trainers.building import adapted
from nnunet_ext.trainers.lowest import LowestOutputUsed
from nnunet_ext.trainers.recipe import Recipe
from tests.networks import plans

CASES = [(spec, dims) for spec, dims in plans.CASES if dims == max(spec.dimensions)]
IDS = [f"{spec.trainer}-{dims}d" for spec, dims in CASES]


@pytest.fixture(scope="module", autouse=True)
def alone_together(tmp_path_factory):
    """A group of this process alone: DDP waits for gradients as in any other."""
    store = dist.FileStore(str(tmp_path_factory.mktemp("group") / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


class Energy(nn.Module):
    """A loss of one output."""

    def forward(self, output, _target):
        return output.square().mean()


def loss_of(outputs):
    """The mean square, as nnU-Net weighs the outputs: the lowest counts nothing."""
    if not isinstance(outputs, list):
        return Energy(), outputs, outputs
    weights = [2.0**-i for i in range(len(outputs) - 1)] + [0.0]
    return LowestOutputUsed(Energy(), weights), outputs, outputs


@pytest.mark.parametrize("deep_supervision", [True, False], ids=["heads", "NoDS"])
@pytest.mark.parametrize(("spec", "dims"), CASES, ids=IDS)
def test_every_family_takes_steps_under_ddp(spec, dims, deep_supervision):
    patch = plans.patch_of(spec, dims)
    built = plans.build(spec, plans.isotropic(dims), patch, deep_supervision=deep_supervision).train()
    network = DistributedDataParallel(adapted(built, Recipe(deep_supervision=deep_supervision)))
    optimiser = torch.optim.SGD(network.parameters(), 1e-3)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    for _ in range(2):  # the second forward pass demands the first's gradients
        optimiser.zero_grad(set_to_none=True)
        loss, outputs, targets = loss_of(network(plans.image(patch, batch=2)))
        loss(outputs, targets).backward()
        assert all(parameter.grad is not None for parameter in network.parameters())
        optimiser.step()
    changed = [name for name, value in network.state_dict().items() if not torch.equal(value, before[name])]
    assert len(changed) > len(before) // 4
