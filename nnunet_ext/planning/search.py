"""The largest patch and batch that fit, and what stops them from being larger."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

GB = 2**30  # as graphics cards are sold: an 8 GB card has 8 * 2^30 bytes

Plan = Mapping[str, Any]  # a configuration of a plans file


def patch_of(plan: Plan) -> tuple[int, ...]:
    """The plan's patch in voxels, (z, y, x) or (y, x)."""
    return tuple(int(size) for size in plan["patch_size"])


@dataclass(frozen=True)
class Fit:
    """The patch and batch that were found.

    Attributes:
        patch: in voxels, (z, y, x) or (y, x).
        batch: samples per training step.
        needed, limit: bytes of a training step, and how many it may have.
        next_patch: the cheapest patch with the next legal size of one axis and the bytes that it would need with the
            smallest batch; None where the patch is nnU-Net's largest for these images.
        covers_image: whether nnU-Net's largest patch holds the median image, or ends at nnU-Net's own size before.
        next_batch: the next batch and the bytes that it would need; None where nnU-Net's limit on the part of the
            dataset in a batch is reached.
    """

    patch: tuple[int, ...]
    batch: int
    needed: int
    limit: int
    next_patch: tuple[tuple[int, ...], int] | None
    covers_image: bool
    next_batch: tuple[int, int] | None

    @property
    def share(self) -> float:
        """Part of the limit that is used."""
        return self.needed / self.limit


@dataclass(frozen=True)
class Search:
    """Grows a patch that fits until none of its axes can grow, then the batch.

    Attributes:
        offer: nnU-Net's plan for images of a shape, whatever memory it needs: the smallest legal patch that holds them,
            and the largest batch that nnU-Net allows.
        needed: bytes of a training step with a plan's patch and a batch.
        limit: bytes that it may have.
        image: shape of the median image in voxels.
        largest: nnU-Net's patch for that image.
        lowest: nnU-Net's smallest batch.
    """

    offer: Callable[[Sequence[int]], Plan]
    needed: Callable[[Plan, int], int]
    limit: int
    image: Sequence[float]
    largest: tuple[int, ...]
    lowest: int

    def larger(self, patch: Sequence[int]) -> Iterator[Plan]:
        """The plans with the next legal size of one axis; that which covers least of the image comes first."""
        for axis in sorted(range(len(patch)), key=lambda a: patch[a] / self.image[a]):
            for size in range(patch[axis] + 1, self.largest[axis] + 1):
                wider = (*patch[:axis], size, *patch[axis + 1 :])
                if patch_of(plan := self.offer(wider)) == wider:
                    yield plan
                    break

    def fit(self, start: Plan) -> tuple[Plan, Fit]:
        """The final plan, apart from its batch, and what was found.

        Args:
            start: a plan that fits with the smallest batch.
        """
        plan: Plan | None = start
        while plan is not None:
            best, plan = plan, next((p for p in self.larger(patch_of(plan)) if self._fits(p)), None)
        patch, needed = patch_of(best), partial(self.needed, best)
        highest = self.offer(patch)["batch_size"]
        batch = largest_batch(needed, self.limit, self.lowest, highest)
        steps = [(patch_of(p), self.needed(p, self.lowest)) for p in self.larger(patch)]
        return best, Fit(
            patch=patch,
            batch=batch,
            needed=needed(batch),
            limit=self.limit,
            next_patch=min(steps, key=lambda step: step[1], default=None),
            covers_image=all(p >= int(i) for p, i in zip(self.largest, self.image, strict=True)),
            next_batch=(batch + 1, needed(batch + 1)) if batch < highest else None,
        )

    def _fits(self, plan: Plan) -> bool:
        return self.needed(plan, self.lowest) <= self.limit


def largest_batch(needed: Callable[[int], int], limit: int, lowest: int, highest: int) -> int:
    """The largest batch up to ``highest`` whose bytes are within the limit, given that ``lowest`` fits.

    Bytes grow almost in proportion to the batch, so a line through two batches points at the third.
    """
    fits, above = lowest, highest + 1
    slope = needed(lowest) / lowest
    while above - fits > 1:
        guess = min(max(fits + int((limit - needed(fits)) / slope), fits + 1), above - 1)
        if needed(guess) > limit:
            above = guess
        else:
            slope = max(1, (needed(guess) - needed(fits)) / (guess - fits))
            fits = guess
    return fits
