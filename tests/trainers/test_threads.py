"""Threads of torch, as the variable says, in whatever builds a network."""

import pytest
import torch

from nnunet_ext.trainers import trainer_class
from nnunet_ext.trainers.threads import THREADS, set_threads


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def build():
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    from tests.trainers import workspace

    manager = PlansManager(workspace.plans(4))
    trainer = trainer_class("nnUNetTrainer_UNet3D_XS")
    trainer.build_network_architecture(manager, manager.get_configuration("3d_fullres"), 4, 3, False)


@pytest.mark.parametrize("what", [set_threads, build])
def test_the_variable_sets_them(what, monkeypatch):
    torch.set_num_threads(4)
    monkeypatch.delenv(THREADS, raising=False)
    what()
    assert torch.get_num_threads() == 4
    monkeypatch.setenv(THREADS, "2")
    what()
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("wrong", ["0", "two", "-1", "1.5"])
def test_a_wrong_number_is_told(wrong, monkeypatch):
    monkeypatch.setenv(THREADS, wrong)
    with pytest.raises(ValueError, match=f"{THREADS} must be a positive whole number, not '{wrong}'"):
        set_threads()
