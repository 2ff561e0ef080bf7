"""What the conventions of evaluation count, as one table.

Sources: ``brats`` Menze 2015 (doi:10.1109/TMI.2014.2377694) with the penalty of the challenges up to 2022, the diagonal
of their 240 x 240 x 155 mm, and the lesions of 2023, for they had none; ``brats2023`` the organisers' script,
github.com/rachitsaluja/BraTS-2023-Metrics (eval.py); ``brats2026-gli`` brats-evaluation 0.0.10 with panoptica 2.1.7 and
its configuration ``gli``; ``nnunet`` nnunetv2.evaluation.evaluate_predictions of nnU-Net 2.8.1, which has no distances
and no lesions: those are of ``brats`` here.
"""

import math
from dataclasses import dataclass

NAN, INF = math.nan, math.inf
DIAGONAL = math.sqrt(240**2 + 240**2 + 155**2)
"""Of the challenge's volumes, mm: 373.12866..."""

POOLED, DIRECTED = "pooled", "directed"
"""HD95 of the distances of both directions together (medpy), and the larger one of the two directions (DeepMind)."""


@dataclass(frozen=True)
class LesionRules:
    """How lesions are made of a mask and what each outcome counts.

    Attributes:
        name: shown to users.
        dilation: steps (18 neighbours) by which reference lesions grow before those that touch become one, and within
            which a predicted component belongs to a lesion; 0 for components as they are.
        min_mm3: reference lesions up to this volume are left out; 0 for none.
        one_to_one: each lesion has at most one predicted component, by the largest sum of Dice; otherwise all that
            touch it count together, for each lesion that they touch.
        missed: Dice and HD95 (mm) of a lesion that nothing was predicted for; None if it leaves the mean.
        extra: the same of a predicted component that belongs to no lesion.
        unmatched: Dice and HD95 of a case in which something is there and nothing is matched; None if ``missed`` and
            ``extra`` say it.
        nothing: Dice and HD95 where neither reference nor prediction has anything that counts.
        distance: POOLED or DIRECTED.
        split: what a lesion in two fragments counts, for people.
        fused: what two lesions with one prediction count, for people.
    """

    name: str
    dilation: int
    min_mm3: float
    one_to_one: bool
    missed: tuple[float, float] | None
    extra: tuple[float, float] | None
    unmatched: tuple[float, float] | None
    nothing: tuple[float, float]
    distance: str
    split: str
    fused: str


GROWN = LesionRules(
    name="2023",
    dilation=3,
    min_mm3=50,
    one_to_one=False,
    missed=(0, 374),
    extra=(0, 374),
    unmatched=None,
    nothing=(1, 0),
    distance=DIRECTED,
    split="the fragments together",
    fused="the prediction counts for both",
)
MATCHED = LesionRules(
    name="2026",
    dilation=0,
    min_mm3=0,
    one_to_one=True,
    missed=None,
    extra=None,
    unmatched=(0, INF),
    nothing=(NAN, NAN),
    distance=POOLED,
    split="the better fragment; the other is a false positive",
    fused="the better lesion; the other is missed",
)


@dataclass(frozen=True)
class Convention:
    """One row: what empty masks and failed cases count.

    Attributes:
        name: of the option ``--convention``.
        both_empty: overlap (Dice, NSD, precision, recall) and HD95 (mm) where neither mask has a voxel; NaN leaves the
            mean.
        one_empty: HD95 (mm) where exactly one mask is empty; overlaps are 0.
        disjoint_is_empty: whether masks without a common voxel count as if one were empty.
        failed: HD95 (mm), lesion-wise too, of a case that could not be compared; overlaps are 0.
        lesions: rules of the lesion-wise metrics.
        voxel_nsd: whether the NSD of border voxels is given as well (``NSD_voxel``), also lesion-wise.
        counts: whether nnU-Net's counts are given as well (IoU, TP, FP, FN, TN, n_pred, n_ref).
    """

    name: str
    both_empty: tuple[float, float]
    one_empty: float
    disjoint_is_empty: bool
    failed: float
    lesions: LesionRules
    voxel_nsd: bool = False
    counts: bool = False


CONVENTIONS = {
    row.name: row
    for row in (
        Convention("brats", (1, 0), DIAGONAL, False, DIAGONAL, GROWN),
        Convention("brats2023", (1, 0), 374, False, 374, GROWN),
        Convention("brats2026-gli", (NAN, NAN), 373, True, 373, MATCHED, voxel_nsd=True),
        Convention("nnunet", (NAN, NAN), DIAGONAL, False, DIAGONAL, GROWN, counts=True),
    )
}
DEFAULT = "brats"
