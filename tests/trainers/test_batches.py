"""Batches by index, without nnU-Net: a loader that shows what it draws from each generator."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import dist, nnUNetTrainer

from nnunet_ext.trainers.batches import IndexedBatches, Stream
from nnunet_ext.trainers.seeding import TRAINING, VALIDATION, seed_generators
from tests.trainers.test_training import trainer_for

COUNT = 7


class Draws:
    """A loader whose batch is one number of each generator."""

    def __next__(self):
        return {"drawn": (random.random(), float(np.random.random()), float(torch.rand(())))}


def batches(key, workers=0, first=0, count=COUNT):
    stream = Stream(Draws(), key, first, workers, pin_memory=False)
    try:
        return [next(stream)["drawn"] for _ in range(count)]
    finally:
        stream.close()


KEY = (5, TRAINING, 0)


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("first", [0, 4])
def test_batch_k_does_not_depend_on_the_workers_nor_on_the_beginning(workers, first):
    assert batches(KEY, workers, first) == batches(KEY, 0, 0, first + COUNT)[first:]


@pytest.mark.parametrize(
    "other", [(6, TRAINING, 0), (5, VALIDATION, 0), (5, TRAINING, 1)], ids=["seed", "kind", "rank"]
)
def test_seed_kind_and_rank_each_give_other_batches(other):
    mine, theirs = batches(KEY), batches(other)
    assert all(a != b for one, two in zip(mine, theirs, strict=True) for a, b in zip(one, two, strict=True))


def test_no_two_batches_are_alike_in_any_generator():
    for numbers in zip(*batches(KEY, count=50), strict=True):
        assert len(set(numbers)) == 50


def test_the_callers_generators_are_left_as_they_were():
    seed_generators(1)
    expected = next(Draws())
    seed_generators(1)
    loader = IndexedBatches(Draws(), KEY, 0, 1)
    next(loader)
    assert next(Draws()) == expected


def test_the_stream_counts_what_was_drawn_not_what_waits():
    stream = Stream(Draws(), KEY, 3, 2, pin_memory=False)
    next(stream)
    next(stream)
    assert stream.drawn == 5
    stream.close()


def test_a_trainers_batches_are_the_same_for_any_number_of_workers(nnunet, monkeypatch):
    seen = []
    for workers in ("0", "2"):
        monkeypatch.setenv("nnUNet_n_proc_DA", workers)
        trainer = trainer_for()
        trainer.initialize()
        streams = trainer.get_dataloaders()
        seen.append([next(stream) for stream in streams for _ in range(3)])
        for stream in streams:
            stream.close()
    for one, two in zip(*seen, strict=True):
        assert torch.equal(one["data"], two["data"])
        assert all(torch.equal(a, b) for a, b in zip(one["target"], two["target"], strict=True))
        assert list(one["keys"]) == list(two["keys"])


@given(st.integers(1, 8).flatmap(lambda n: st.tuples(st.just(n), st.integers(n, 64))))
def test_the_share_of_forced_foreground_is_one_processs(sizes):
    """nnU-Net's own rule, on which several processes here depend: as many forced patches as in one process."""
    world, batch = sizes

    class Rank:
        is_ddp = True
        oversample_foreground_percent = 0.33

        class configuration_manager:
            batch_size = batch

    def forced(size, share):
        return sum(not i < round(size * (1 - share)) for i in range(size))

    total = 0
    with pytest.MonkeyPatch.context() as patch:
        for rank in range(world):
            patch.setattr(dist, "get_world_size", lambda: world)
            patch.setattr(dist, "get_rank", lambda rank=rank: rank)
            one = Rank()
            nnUNetTrainer._set_batch_size_and_oversample(one)
            total += forced(one.batch_size, one.oversample_foreground_percent)
    assert total == forced(batch, 0.33)
