"""From the blocks that a tracker saw to the peak: when it is, what is live then, and where it was made."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nnunet_ext.profiling.tracker import ACTIVATION, OTHER, Block


@dataclass(frozen=True)
class Peak:
    """The moment at which most bytes were live.

    Attributes:
        by_kind: bytes live at that moment, by kind.
        by_stage: those of them that are activations, by stage; they add up to ``by_kind["activation"]``.
        own_peaks: most bytes of activations of a stage that were live at any moment, by stage.
    """

    by_kind: Mapping[str, int]
    by_stage: Mapping[str, int]
    own_peaks: Mapping[str, int]


def find_peak(blocks: Sequence[Block]) -> Peak:
    """The first moment of the highest sum over all kinds."""
    moment = _highest(blocks)[1]
    live = [b for b in blocks if b.born <= moment and (b.died is None or b.died > moment)]
    activations = [b for b in blocks if b.kind == ACTIVATION]
    stages = dict.fromkeys(b.stage or OTHER for b in activations)
    return Peak(
        by_kind={kind: sum(b.nbytes for b in live if b.kind == kind) for kind in {b.kind for b in blocks}},
        by_stage={s: sum(b.nbytes for b in live if b.kind == ACTIVATION and (b.stage or OTHER) == s) for s in stages},
        own_peaks={s: _highest(b for b in activations if (b.stage or OTHER) == s)[0] for s in stages},
    )


def _highest(blocks: Iterable[Block]) -> tuple[int, int]:
    """(bytes, moment) of the highest sum."""
    changes = [(t, n) for b in blocks for t, n in ((b.born, b.nbytes), (b.died, -b.nbytes)) if t is not None]
    times, sizes = np.array(sorted(changes), dtype=np.int64).reshape(-1, 2).T
    levels = np.cumsum(sizes)
    at = int(levels.argmax()) if len(levels) else 0
    return (int(levels[at]), int(times[at])) if len(levels) else (0, 0)
