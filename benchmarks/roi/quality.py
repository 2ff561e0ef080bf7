"""What the cascade keeps and loses: voxels through the network, Dice, and the Dice that its crops allow at most."""

from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cc3d
import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.roi.commands import model_folder
from nnunet_ext.cascade.components import cover, find
from nnunet_ext.cascade.geometry import covered
from nnunet_ext.cascade.loading import load_model
from nnunet_ext.cascade.predictor import nnUNetCascadePredictor
from nnunet_ext.cascade.report import tiles
from nnunet_ext.cascade.settings import CascadeSettings

REGIONS = {"WT": (1, 2, 3), "TC": (1, 3), "ET": (3,)}
WINDOW, DETECTED, TRUE = "sliding window", "cascade", "cascade, true ROI"
LARGE_ML = 1.0  # a component that a detector must not miss
Volume = NDArray[Any]


class TrueROI(nnUNetCascadePredictor):
    """The cascade with the truth in place of the detector: ``truth`` is (Z, Y, X), bool."""

    truth: NDArray[np.bool_]

    def tumor_probability(self, data: torch.Tensor) -> torch.Tensor:
        """1 in the tumour, 0 elsewhere."""
        return torch.from_numpy(self.truth.astype(np.float32))


def cascade(args: Namespace, kind: type[nnUNetCascadePredictor], *, mirroring: bool) -> nnUNetCascadePredictor:
    """A predictor with both models."""
    made = kind(use_mirroring=mirroring, device=torch.device(args.device), allow_tqdm=False)
    folder = model_folder(args)
    made.initialize_from_trained_model_folder(str(folder), [args.f])
    detector = folder.parent / f"{args.roi_tr}__{args.p}__{args.roi_c}"
    made.initialize_detector_from_trained_model_folder(str(detector), [args.roi_f])
    return made


def window(args: Namespace, *, mirroring: bool) -> nnUNetPredictor:
    """nnU-Net's predictor with the same network."""
    made = nnUNetPredictor(use_mirroring=mirroring, device=torch.device(args.device), allow_tqdm=False)
    load_model(made, model_folder(args), [args.f])
    return made


def compare(args: Namespace, cases: Mapping[str, Sequence[Path]], labels: Path) -> list[dict[str, Any]]:
    """Every case by all three ways; the first ``args.mirrored`` with mirroring as well."""
    records = []
    for mirroring in (False, True):
        chosen = [*cases.items()][: args.mirrored if mirroring else args.quality]
        made = {DETECTED: cascade(args, nnUNetCascadePredictor, mirroring=mirroring)}
        made |= {TRUE: cascade(args, TrueROI, mirroring=mirroring)}
        plain = window(args, mirroring=mirroring)
        for name, paths in tqdm(chosen, "quality, mirrored" if mirroring else "quality"):
            data, truth = preprocessed(plain, paths, labels / f"{name}.nii.gz")
            common = {"case": name, "mirrored": mirroring}
            records.append({**common, "way": WINDOW, **scores(plain, data, truth)})
            for way, predictor in made.items():
                if isinstance(predictor, TrueROI):
                    predictor.truth = truth > 0
                records.append({**common, "way": way, **scores(predictor, data, truth), **limits(predictor, truth)})
    return records


def preprocessed(predictor: nnUNetPredictor, images: Sequence[Path], label: Path) -> tuple[torch.Tensor, Volume]:
    """A case as the network reads it, (C, Z, Y, X), and its labels (Z, Y, X); at 1 mm those are the image's voxels."""
    configuration = predictor.configuration_manager
    data, seg, _ = configuration.preprocessor_class(verbose=False).run_case(
        [str(p) for p in images], str(label), predictor.plans_manager, configuration, predictor.dataset_json
    )
    return torch.from_numpy(data).float(), np.maximum(seg[0], 0)  # -1 is outside the brain


def scores(predictor: nnUNetPredictor, data: torch.Tensor, truth: Volume) -> dict[str, Any]:
    """Dice of the regions."""
    logits = predictor.predict_logits_from_preprocessed_data(data)
    found = np.asarray(predictor.label_manager.convert_logits_to_segmentation(logits))
    return {f"dice_{name}": dice(found, truth, values) for name, values in REGIONS.items()}


def dice(found: Volume, truth: Volume, values: Sequence[int]) -> float:
    """1 if both are empty: a missed or invented region counts as 0, as BraTS counts it."""
    a, b = np.isin(found, values), np.isin(truth, values)
    total = int(a.sum() + b.sum())
    return 2 * int((a & b).sum()) / total if total else 1.0


def limits(predictor: nnUNetCascadePredictor, truth: Volume) -> dict[str, Any]:
    """What was computed, and the Dice of a segmentation that is perfect inside the crops and empty outside."""
    facts = predictor.reports[-1].facts
    boxes = [tuple(slice(max(a, 0), b) for a, b in box) for box in facts["crop_boxes"]]
    seen = covered(boxes, truth.shape) if boxes else np.ones(truth.shape, bool)
    best = np.where(seen, truth, 0)
    return {
        "crops": facts["crops"],
        "fewer_voxels": facts["voxels_sliding_window"] / facts["voxels_computed"],
        "fallback": facts["fallback"],
        **{f"ceiling_{name}": dice(best, truth, values) for name, values in REGIONS.items()},
    }


def recall(args: Namespace, cases: Mapping[str, Sequence[Path]], labels: Path) -> list[dict[str, Any]]:
    """For settings around the defaults: recall of tumour voxels and components against the number of crops."""
    predictor = cascade(args, nnUNetCascadePredictor, mirroring=False)
    default = CascadeSettings()
    grid = {
        "defaults": default,
        **{f"roi_threshold {v}": replace(default, roi_threshold=v) for v in (0.1, 0.2, 0.5)},
        **{f"margin_mm {v}": replace(default, margin_mm=v) for v in (0.0, 5.0, 20.0)},
        **{f"max_components {v}": replace(default, max_components=v) for v in (1, 2, 20)},
        **{f"min_component_ml {v}": replace(default, min_component_ml=v) for v in (0.0, 0.5, 2.0)},
    }
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in grid}
    for name, paths in tqdm(cases.items(), "recall"):
        data, truth = preprocessed(predictor, paths, labels / f"{name}.nii.gz")
        probability = predictor.tumor_probability(data).float().numpy()
        for key, settings in grid.items():
            measured[key].append(recalled(probability, truth > 0, predictor, settings))
    return [{"settings": key, **_pooled(rows)} for key, rows in measured.items()]


def recalled(
    probability: Volume, truth: NDArray[np.bool_], predictor: nnUNetCascadePredictor, settings: CascadeSettings
) -> dict[str, float]:
    """Voxels and large components of the truth that lie in the kept components' boxes, and in crops."""
    spacing, crop = predictor.configuration_manager.spacing, predictor.crop_size
    components = find(probability > settings.roi_threshold, spacing, settings)
    padded = [max(n, c) for n, c in zip(truth.shape, crop, strict=True)]
    crops = cover(components, truth.shape, crop, padded, predictor.tile_step_size)
    roi = covered([c.box for c in components if not c.dropped], truth.shape)
    inner = tuple(slice(o, o + n) for o, n in zip(crops.offset, truth.shape, strict=True))
    seen = covered(crops.boxes, padded)[inner]
    if not crops.boxes:
        roi = seen = np.ones(truth.shape, bool)  # the sliding window
    patch = predictor.configuration_manager.patch_size
    window = tiles(truth.shape, patch, predictor.tile_step_size) * int(np.prod(patch))
    labels = cc3d.connected_components(truth)
    sizes = np.bincount(labels.ravel())[1:] * np.prod(spacing) / 1000
    large = [i + 1 for i, ml in enumerate(sizes) if ml > LARGE_ML]
    return {
        "voxels": float(truth.sum()),
        "in_roi": float((truth & roi).sum()),
        "in_crops": float((truth & seen).sum()),
        "worst_in_roi": float((truth & roi).sum() / max(truth.sum(), 1)),
        "components": len(large),
        "missed": sum(not (seen & (labels == i)).any() for i in large),
        "crops": len(crops.boxes),
        "fallbacks": not crops.boxes,
        "computed": len(crops.boxes) * int(np.prod(crop)) or window,
        "window": window,
    }


def _pooled(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    total = {key: sum(row[key] for row in rows) for key in rows[0]}
    return {
        "recall_roi": total["in_roi"] / total["voxels"],
        "worst_case_roi": min(row["worst_in_roi"] for row in rows),
        "recall_crops": total["in_crops"] / total["voxels"],
        "components": total["components"],
        "missed": total["missed"],
        "crops_per_case": total["crops"] / len(rows),
        "fallbacks": total["fallbacks"],
        "fewer_voxels": total["window"] / total["computed"],
    }
