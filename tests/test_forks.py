"""What trainings that are forked from the process of the tests rely on."""

import multiprocessing

import torch
from torch._subclasses.fake_tensor import FakeTensorMode


def differentiate():
    torch.ones(1, requires_grad=True).sum().backward()


def test_a_fork_differentiates_after_fake_tensors_came():
    with FakeTensorMode():
        torch.ones(1)
    differentiate()
    process = multiprocessing.get_context("fork").Process(target=differentiate)
    process.start()
    process.join()
    assert process.exitcode == 0
