"""Our values beside those of the official programs and of other libraries, on random volumes."""

import hashlib
import json
import math
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.scoring.volumes import masks, pair
from nnunet_ext.evaluation.conventions import CONVENTIONS
from nnunet_ext.evaluation.distances import Surfaces
from nnunet_ext.evaluation.metrics import measure, values
from nnunet_ext.evaluation.regions import EDITIONS

PEERS = Path(__file__).resolve().parents[1] / "peers"
LIMIT = 1e-9
SPACINGS = ((1.0, 1.0, 1.0), (2.0, 1.0, 1.0), (1.3, 0.7, 2.1), (0.9375, 0.9375, 5.0), (3.0, 3.0, 3.0))
Values = Mapping[str, Mapping[str, Mapping[str, float]]]
COMMON = 373.0
"""What brats-evaluation writes into its table for an infinite HD95 of a whole region."""


def official(python: Path, convention: str, pairs: int, folder: Path, script: Path | None = None) -> dict[str, Any]:
    """What an official program says of the first ``pairs`` volumes: versions and values by seed, region and metric."""
    arrays, out = folder / "pairs.npz", folder / f"{convention}.json"
    drawn = [pair(seed) for seed in range(pairs)]
    named = {
        f"{kind}_{seed}": both[i]
        for seed, both in enumerate(drawn)
        for i, kind in enumerate(("reference", "prediction"))
    }
    np.savez(arrays, allow_pickle=False, **named)
    program = ["organisers_2023.py", str(script)] if script else ["official_evaluation.py", "values"]
    subprocess.run([str(python), str(PEERS / program[0]), *program[1:], str(arrays), str(out)], check=True)
    found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    for row in (row for regions in found["found"].values() for row in regions.values()):
        if convention == "brats2026-gli" and math.isinf(row["HD95_pooled"]):
            row["HD95_pooled"] = COMMON
    return found


def largest_differences(convention: str, theirs: Values) -> dict[str, dict[str, float]]:
    """Metric -> number of values, largest difference, how many differ beyond LIMIT; NaN and inf must be equal."""
    found: dict[str, dict[str, float]] = {}
    for seed, regions in theirs.items():
        labels = pair(int(seed))
        for region, row in regions.items():
            both = [np.isin(volume, EDITIONS["2023"].regions[region]) for volume in labels]
            ours = values(measure(both[0], both[1], (1.0, 1.0, 1.0), both[0].size), CONVENTIONS[convention])
            for metric, value in row.items():
                _add(found, metric, ours[metric], value)
    return found


def libraries(pairs: int) -> dict[str, dict[str, float]]:
    """The same for the distances of medpy and DeepMind's surface-distance, on anisotropic voxels as well."""
    from medpy.metric.binary import hd95
    from surface_distance import metrics as deepmind

    found: dict[str, dict[str, float]] = {}
    for seed in range(pairs):
        reference, prediction = masks(seed)
        if not (reference.any() and prediction.any()):
            continue
        spacing = SPACINGS[seed % len(SPACINGS)]
        surfaces, theirs = (
            Surfaces.of(reference, prediction, spacing),
            deepmind.compute_surface_distances(reference, prediction, spacing),
        )
        _add(
            found,
            "HD95_pooled, medpy",
            surfaces.hd95_pooled(),
            float(hd95(prediction, reference, voxelspacing=spacing)),
        )
        _add(
            found,
            "HD95_directed, DeepMind",
            surfaces.hd95_directed(),
            float(deepmind.compute_robust_hausdorff(theirs, 95)),
        )
        nsd = float(deepmind.compute_surface_dice_at_tolerance(theirs, 1.0))
        _add(found, "NSD_1mm, DeepMind", surfaces.nsd(1.0), nsd)
    return found


def _add(found: dict[str, dict[str, float]], metric: str, ours: float, theirs: float) -> None:
    entry = found.setdefault(metric, {"values": 0, "largest": 0.0, "different": 0})
    entry["values"] += 1
    if ours == theirs or (math.isnan(ours) and math.isnan(theirs)):
        return
    step = abs(ours - theirs)
    entry["different"] += not step <= LIMIT
    entry["largest"] = max(entry["largest"], step) if math.isfinite(step) else math.inf


def table(seeds: Sequence[int], found: Mapping[str, dict[str, Any]]) -> str:
    """The values of the official programs for the tests, one line a seed."""
    digest = hashlib.sha256()
    for labels in (labels for seed in seeds for labels in pair(seed)):
        digest.update(repr(labels.shape).encode() + labels.tobytes())
    lines = [f'"seeds": {json.dumps(list(seeds))}', f'"sha256": "{digest.hexdigest()}"']
    for convention, program in found.items():
        metrics = list(next(iter(program["found"]["0"].values())))
        head = f'"versions": {json.dumps(program["versions"])}, "metrics": {json.dumps(metrics)}'
        rows = ",\n  ".join(_lines(seeds, program["found"], metrics))
        lines.append(f'"{convention}": {{{head}, "values": {{\n  {rows}\n }}}}')
    return "{\n " + ",\n ".join(lines) + "\n}\n"


def _lines(seeds: Sequence[int], found: Values, metrics: Sequence[str]) -> Iterator[str]:
    for seed in seeds:
        rows = {region: [_plain(row[m]) for m in metrics] for region, row in found[str(seed)].items()}
        yield f'"{seed}": {json.dumps({region: rows[region] for region in ("WT", "TC", "ET")})}'


def _plain(value: float) -> float | str | None:
    return None if math.isnan(value) else "inf" if math.isinf(value) else value
