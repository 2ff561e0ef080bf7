"""From two masks to values: what is measured once (:class:`Facts`), and what a convention makes of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan, prod
from statistics import fmean

import numpy as np

from nnunet_ext.evaluation.conventions import CONVENTIONS, Convention, LesionRules
from nnunet_ext.evaluation.distances import Surfaces
from nnunet_ext.evaluation.lesions import Lesions, compare
from nnunet_ext.evaluation.surfaces import Mask

MM3_PER_ML = 1000
BOTH_EMPTY = "neither reference nor prediction has a voxel"
NO_REFERENCE = "the reference has no voxel"
NO_PREDICTION = "the prediction has no voxel"
DISJOINT = "reference and prediction have no common voxel"
HD95 = ("HD95_pooled", "HD95_directed")
RULES = tuple({convention.lesions.name: convention.lesions for convention in CONVENTIONS.values()}.values())


def nsd_name(tolerance: float) -> str:
    """Name of the metric: NSD_1mm."""
    return f"NSD_{tolerance:g}mm"


@dataclass(frozen=True)
class Facts:
    """What is measured of a region of a case, before any convention.

    Attributes:
        tp: voxels in both masks; ``fp`` in the prediction alone, ``fn`` in the reference alone, ``tn`` in neither.
        voxel_mm3: volume of a voxel.
        distances: HD95_pooled, HD95_directed, NSD_...; empty where a mask is.
        lesions: by the name of their rules.
    """

    tp: int
    fp: int
    fn: int
    tn: int
    voxel_mm3: float
    distances: Mapping[str, float]
    lesions: Mapping[str, Lesions]

    @property
    def reference(self) -> int:
        """Voxels of the reference."""
        return self.tp + self.fn

    @property
    def prediction(self) -> int:
        """Voxels of the prediction."""
        return self.tp + self.fp

    def note(self) -> str:
        """What is special about the masks, for people; empty if nothing is."""
        if not self.reference:
            return NO_REFERENCE if self.prediction else BOTH_EMPTY
        if not self.prediction:
            return NO_PREDICTION
        return "" if self.tp else DISJOINT


def measure(
    reference: Mask,
    prediction: Mask,
    spacing: Sequence[float],
    voxels: int,
    tolerances: Sequence[float] = (1.0,),
    rules: Sequence[LesionRules] = RULES,
) -> Facts:
    """Measures one region.

    Args:
        reference: (Z, Y, X) or (Y, X), or a box of the volume outside of which both masks are empty.
        prediction: of the same shape.
        spacing: mm, in the order of the axes.
        voxels: of the whole volume.
        tolerances: mm, of the NSD.
        rules: for which lesions are compared.
    """
    tp = int(np.count_nonzero(reference & prediction))
    fp, fn = int(np.count_nonzero(prediction)) - tp, int(np.count_nonzero(reference)) - tp
    surfaces = Surfaces.of(reference, prediction, spacing) if tp + fp and tp + fn else None
    distances: dict[str, float] = {}
    if surfaces:
        distances = {"HD95_pooled": surfaces.hd95_pooled(), "HD95_directed": surfaces.hd95_directed()}
        distances |= {nsd_name(tolerance): surfaces.nsd(tolerance) for tolerance in tolerances}
        distances["NSD_voxel"] = surfaces.nsd_voxel(min(spacing) / 2)  # panoptica: half a voxel here, one for lesions
    lesions = compare(reference, prediction, spacing, rules, surfaces)
    return Facts(tp, fp, fn, voxels - tp - fp - fn, prod(spacing), distances, lesions)


def values(facts: Facts, convention: Convention, tolerances: Sequence[float] = (1.0,)) -> dict[str, float]:
    """The metrics of a region as the convention counts them; distances in mm, volumes in ml."""
    share, far = convention.both_empty
    neither = not facts.reference and not facts.prediction
    if not neither:
        share, far = 0.0, convention.one_empty
    apart = not facts.distances or (convention.disjoint_is_empty and not facts.tp)
    given = dict.fromkeys(HD95, far) if apart else facts.distances
    found = {
        "Dice": 2 * facts.tp / (facts.reference + facts.prediction) if not neither else share,
        **{name: given[name] for name in HD95},
        **{nsd_name(t): facts.distances.get(nsd_name(t), share) for t in tolerances},
        "precision": facts.tp / facts.prediction if facts.prediction else share,
        "recall": facts.tp / facts.reference if facts.reference else share,
        "specificity": facts.tn / (facts.tn + facts.fp) if facts.tn + facts.fp else 0.0,
        "volume_ml": facts.prediction * facts.voxel_mm3 / MM3_PER_ML,
        "reference_volume_ml": facts.reference * facts.voxel_mm3 / MM3_PER_ML,
        **lesionwise(facts.lesions[convention.lesions.name], convention.lesions, nsd=convention.voxel_nsd),
    }
    if convention.voxel_nsd:
        found["NSD_voxel"] = share if apart else facts.distances["NSD_voxel"]
    if convention.counts:
        found |= _counts(facts)
    return found


def lesionwise(lesions: Lesions, rules: LesionRules, *, nsd: bool = False) -> dict[str, float]:
    """The lesion-wise metrics as the rules count them."""
    counted = lesions.counted(rules)
    found = [lesion for lesion in counted if lesion.found]
    missed, extra = len(counted) - len(found), lesions.extra
    rows = [(lesion.dice, lesion.hd95) for lesion in found]
    rows += [rules.missed] * missed if rules.missed else []
    rows += [rules.extra] * extra if rules.extra else []
    if not rows:
        rows = [rules.unmatched if rules.unmatched and missed + extra else rules.nothing]
    result = {"lesionwise_Dice": fmean(row[0] for row in rows), "lesionwise_HD95": fmean(row[1] for row in rows)}
    if nsd:
        within = [lesion.nsd_voxel for lesion in found]
        result["lesionwise_NSD_voxel"] = fmean(within) if within else rows[0][0]
    return {**result, "lesions_tp": len(found), "lesions_fp": extra, "lesions_fn": missed}


def failed(convention: Convention, tolerances: Sequence[float] = (1.0,)) -> dict[str, float]:
    """The worst values, which count for a case that could not be compared; volumes and lesions are unknown: NaN."""
    overlaps = ["Dice", *map(nsd_name, tolerances), "precision", "recall", "specificity", "lesionwise_Dice"]
    unknown = ["volume_ml", "reference_volume_ml", "lesions_tp", "lesions_fp", "lesions_fn"]
    if convention.voxel_nsd:
        overlaps += ["NSD_voxel", "lesionwise_NSD_voxel"]
    if convention.counts:
        overlaps, unknown = [*overlaps, "IoU"], [*unknown, "TP", "FP", "FN", "TN", "n_pred", "n_ref"]
    distances = dict.fromkeys([*HD95, "lesionwise_HD95"], convention.failed)
    return {**dict.fromkeys(overlaps, 0.0), **distances, **dict.fromkeys(unknown, nan)}


def _counts(facts: Facts) -> dict[str, float]:
    union = facts.tp + facts.fp + facts.fn
    return {
        "IoU": facts.tp / union if union else nan,
        "TP": facts.tp,
        "FP": facts.fp,
        "FN": facts.fn,
        "TN": facts.tn,
        "n_pred": facts.prediction,
        "n_ref": facts.reference,
    }
