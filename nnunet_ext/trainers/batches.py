"""Batches as a function of (seed, stream, rank, index), however many processes make them.

batchgenerators' ``MultiThreadedAugmenter`` asks its workers in turn: worker w of n makes the batches w, w + n, ... So
each worker knows the index of its next batch, and seeds the generators from it. No generator is ever saved: a training
that goes on says at which batch.
"""

import multiprocessing
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from batchgenerators.dataloading.multi_threaded_augmenter import MultiThreadedAugmenter

from nnunet_ext.trainers.seeding import borrowed_generators
from nnunet_ext.trainers.signals import outlive_stopping

WORKERS_VARIABLE = "nnUNet_n_proc_DA"
CACHED = 2  # batches that wait per worker, as batchgenerators advises
WAIT_SECONDS = 0.002  # as nnU-Net


class IndexedBatches:
    """A loader that seeds each batch by its index; one copy of it is in each worker.

    Args:
        loader: makes a batch from the generators of Python, NumPy and torch alone.
        key: seed, stream and rank.
        first: index of the first batch.
        workers: number of processes that share the work, at least one.
    """

    def __init__(self, loader: Any, key: tuple[int, ...], first: int, workers: int) -> None:
        self.loader, self.key, self.index, self.workers = loader, key, first, workers

    def set_thread_id(self, worker: int) -> None:
        """Called by batchgenerators in the worker's process."""
        self.index += worker
        torch.set_num_threads(1)
        outlive_stopping()
        threading.Thread(target=_end_with_parent, daemon=True).start()

    def __iter__(self) -> "IndexedBatches":
        return self

    def __next__(self) -> dict[str, Any]:
        with borrowed_generators(*self.key, self.index):
            batch: dict[str, Any] = next(self.loader)
        self.index += self.workers
        return batch


def _end_with_parent() -> None:
    """A worker that waits for room in its queue would outlive a killed trainer."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


class Stream:
    """What the trainer draws from: counts the batches, so that a checkpoint can say where to go on.

    Args:
        loader: nnU-Net's, without processes of its own.
        key: seed, stream and rank.
        drawn: number of batches that were drawn before.
        workers: number of processes; with 0 the caller's makes the batches.
        pin_memory: whether batches are copied into page-locked memory for a GPU.
    """

    def __init__(self, loader: Any, key: tuple[int, ...], drawn: int, workers: int, pin_memory: bool) -> None:
        self.drawn = drawn
        self.source: Any = IndexedBatches(loader, key, drawn, max(1, workers))
        if workers:
            self.source = MultiThreadedAugmenter(
                self.source, None, workers, CACHED, pin_memory=pin_memory, wait_time=WAIT_SECONDS
            )
            self.source.restart()  # starts the workers before the first batch is needed

    def __iter__(self) -> "Stream":
        return self

    def __next__(self) -> dict[str, Any]:
        batch: dict[str, Any] = next(self.source)
        self.drawn += 1
        return batch

    def close(self) -> None:
        """Ends the workers."""
        if isinstance(self.source, MultiThreadedAugmenter):
            self.source._finish()  # as nnU-Net does: batchgenerators has no public name for it


@contextmanager
def without_workers() -> Iterator[None]:
    """Has nnU-Net make its loaders without processes around them, which only its variable can ask for."""
    before = os.environ.get(WORKERS_VARIABLE)
    os.environ[WORKERS_VARIABLE] = "0"
    try:
        yield
    finally:
        del os.environ[WORKERS_VARIABLE]
        if before is not None:
            os.environ[WORKERS_VARIABLE] = before
