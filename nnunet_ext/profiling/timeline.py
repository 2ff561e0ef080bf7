"""From the blocks that a tracker saw to the peaks: when they are, what is live then, and where it was made."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nnunet_ext.profiling.tracker import ACTIVATION, OTHER, Block


@dataclass(frozen=True)
class Peak:
    """The moments at which most bytes were live: of all kinds, and of each.

    Attributes:
        by_kind: bytes by kind, at the moment at which most of all kinds together are live.
        highest: most bytes of a kind that were live at any moment, by kind.
        by_stage: activations by stage, at the moment at which most of them are live; they add up to
            ``highest["activation"]``.
        own_peaks: most bytes of activations of a stage that were live at any moment, by stage.
    """

    by_kind: Mapping[str, int]
    highest: Mapping[str, int]
    by_stage: Mapping[str, int]
    own_peaks: Mapping[str, int]


def find_peak(blocks: Sequence[Block]) -> Peak:
    """The first moments of the highest sums."""
    kinds = {b.kind for b in blocks}
    activations = [b for b in blocks if b.kind == ACTIVATION]
    live, working = _live(blocks, _highest(blocks)[1]), _live(activations, _highest(activations)[1])
    stages = dict.fromkeys(b.stage or OTHER for b in activations)
    return Peak(
        by_kind={kind: sum(b.nbytes for b in live if b.kind == kind) for kind in kinds},
        highest={kind: _highest(b for b in blocks if b.kind == kind)[0] for kind in kinds},
        by_stage={s: sum(b.nbytes for b in working if (b.stage or OTHER) == s) for s in stages},
        own_peaks={s: _highest(b for b in activations if (b.stage or OTHER) == s)[0] for s in stages},
    )


def _live(blocks: Iterable[Block], moment: int) -> list[Block]:
    return [b for b in blocks if b.born <= moment and (b.died is None or b.died > moment)]


def _highest(blocks: Iterable[Block]) -> tuple[int, int]:
    """(bytes, moment) of the highest sum."""
    changes = [(t, n) for b in blocks for t, n in ((b.born, b.nbytes), (b.died, -b.nbytes)) if t is not None]
    times, sizes = np.array(sorted(changes), dtype=np.int64).reshape(-1, 2).T
    levels = np.cumsum(sizes)
    at = int(levels.argmax()) if len(levels) else 0
    return (int(levels[at]), int(times[at])) if len(levels) else (0, 0)
