"""How long whole cases take: ours, brats-evaluation, and HD95 over the whole volume."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.scoring.agreement import PEERS
from nnunet_ext.evaluation import cases, finding, reading
from nnunet_ext.evaluation.cases import Pair, Settings
from nnunet_ext.evaluation.conventions import MATCHED
from nnunet_ext.evaluation.distances import Surfaces
from nnunet_ext.evaluation.lesions import compare
from nnunet_ext.evaluation.regions import BRATS_REGIONS, EDITIONS
from nnunet_ext.evaluation.surfaces import Mask

PHANTOMS = Path(__file__).resolve().parents[2] / "dataset_conversion" / "phantom_brats.py"
OURS, SAME, OFFICIAL = "nnunet_ext evaluate, all conventions", "brats-evaluation's metrics here", "brats-evaluation"
WHOLE, BOXED = "medpy on whole volumes", "HD95_pooled here"
SETTINGS = Settings(EDITIONS["2023"], EDITIONS["2023"], "brats")


def measure_all(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds of the processor for each case by each way, the ways in turn within each repeat."""
    seconds: dict[str, dict[str, list[float]]] = {way: {} for way in (OURS, SAME, OFFICIAL, WHOLE, BOXED)}
    with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
        folder = Path(scratch)
        pairs = prepare(args, folder)
        for _ in tqdm(range(args.repeats), "repeats"):
            for pair in pairs:
                _add(seconds[OURS], pair.case, partial(cases.evaluate, pair, SETTINGS))
                _add(seconds[SAME], pair.case, partial(_same, pair))
            for name, values in _official(args.official, folder)["found"].items():
                seconds[OFFICIAL].setdefault(name.removesuffix(".nii.gz"), []).extend(values)
            _distances(pairs, seconds)
    return {
        "repeats": args.repeats,
        "cases": len(pairs),
        "load": f"{os.getloadavg()[0]:.1f}",
        "seconds": seconds,
        "ratios": ratios(seconds),
    }


def ratios(seconds: dict[str, dict[str, list[float]]]) -> dict[str, dict[str, float]]:
    """Median, smallest and largest of the cases' ratios, each of medians over repeats."""
    found = {}
    for slow, fast in ((OFFICIAL, SAME), (OFFICIAL, OURS), (WHOLE, BOXED)):
        rows = [median(values) / median(seconds[fast][case]) for case, values in seconds[slow].items()]
        found[f"{slow} / {fast}"] = {"median": median(rows), "least": min(rows), "most": max(rows)}
    return found


def page(report: dict[str, Any]) -> list[str]:
    """The report as lines of a page."""
    lines = [
        f"{report['cases']} cases of 240 x 240 x 155 voxels, {report['repeats']} repeats, one thread, load"
        f" {report['load']} at the end. Processor seconds, medians of the repeats. The first three read a case from its"
        " files: all metrics by all four conventions, with both HD95 and both kinds of lesions, of five regions and"
        " classes; Dice, HD95, NSD and lesions as brats-evaluation has them; brats-evaluation itself (a sixth class is"
        " empty). The others are HD95 of WT, TC and ET.",
        *("", "| way | seconds a case: median | least | most |", "|---|---:|---:|---:|"),
    ]
    for way, by_case in report["seconds"].items():
        medians = [median(values) for values in by_case.values()]
        lines.append(f"| {way} | {median(medians):.2f} | {min(medians):.2f} | {max(medians):.2f} |")
    lines += ["", "| ratio | median | least | most |", "|---|---:|---:|---:|"]
    lines += [f"| {n} | {r['median']:.1f} | {r['least']:.1f} | {r['most']:.1f} |" for n, r in report["ratios"].items()]
    return lines


def prepare(args: argparse.Namespace, folder: Path) -> list[Pair]:
    """References with the labels of 2023 and predictions: moved by up to two voxels, with two spots and holes."""
    tree = args.source or folder / "tree"
    if args.source is None:
        words = [str(PHANTOMS), str(tree), "--cases", str(args.cases), "--edition", "2021"]
        subprocess.run([sys.executable, *words], check=True, capture_output=True)
    pairs = []
    for number, path in enumerate(list(finding.files(tree).values())[: args.cases]):
        rng = np.random.default_rng(number)
        labels = EDITIONS["2021"].classes_of(reading.read(path).labels)
        moved = np.roll(labels, tuple(rng.integers(-2, 3, 3)), (0, 1, 2))
        for value in (3, 0):
            start = [int(rng.integers(10, n - 20)) for n in labels.shape]
            moved[tuple(slice(s, s + 6) for s in start)] = value
        name = f"BraTS-GLI-{number:05d}-000"  # brats-evaluation skips files with other names
        made = {kind: folder / kind / f"{name}.nii.gz" for kind in ("reference", "prediction")}
        for kind, volume in (("reference", labels), ("prediction", moved)):
            _write(SimpleITK.ReadImage(str(path)), volume, made[kind])
        pairs.append(Pair(name, made["reference"], made["prediction"]))
    return pairs


def _write(like: Any, labels: NDArray[np.uint8], path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    image = SimpleITK.GetImageFromArray(labels)
    image.CopyInformation(like)
    SimpleITK.WriteImage(image, str(path), True)


def _official(python: Path, folder: Path) -> dict[str, Any]:
    out = folder / "times.json"
    words = [str(python), str(PEERS / "official_evaluation.py"), "time", str(folder / "reference")]
    subprocess.run([*words, str(folder / "prediction"), "1", str(out)], check=True)
    found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return found


def _same(pair: Pair) -> list[Any]:
    """What brats-evaluation measures."""
    volumes = cases.load(pair, SETTINGS)
    found: list[Any] = []
    for numbers in SETTINGS.reference.regions.values():
        true, given = np.isin(volumes.reference, numbers), np.isin(volumes.prediction, numbers)
        sizes = [int(np.count_nonzero(mask)) for mask in (true, given, true & given)]
        found.append(2 * sizes[2] / (sizes[0] + sizes[1] or 1))
        whole = Surfaces.of(true, given, volumes.spacing) if true.any() and given.any() else None
        found += [whole.hd95_pooled(), whole.nsd_voxel(0.5)] if whole else []
        found.append(compare(true, given, volumes.spacing, [MATCHED], whole))
    return found


def _distances(pairs: list[Pair], seconds: dict[str, dict[str, list[float]]]) -> None:
    for pair in pairs:
        masks = _masks(pair)
        _add(seconds[WHOLE], pair.case, partial(_whole, masks))
        _add(seconds[BOXED], pair.case, partial(_boxed, masks))


Masks = list[tuple[Mask, Mask, tuple[float, ...]]]
"""Reference, prediction and spacing (mm) of regions."""


def _whole(masks: Masks) -> list[float]:
    from medpy.metric.binary import hd95

    return [hd95(prediction, reference, voxelspacing=spacing) for reference, prediction, spacing in masks]


def _boxed(masks: Masks) -> list[float]:
    return [Surfaces.of(*mask).hd95_pooled() for mask in masks]


def _masks(pair: Pair) -> Masks:
    """Of each region that both have."""
    assert pair.reference is not None
    assert pair.prediction is not None
    volumes = reading.read(pair.reference), reading.read(pair.prediction)
    masks = [tuple(np.isin(v.labels, numbers) for v in volumes) for numbers in BRATS_REGIONS.values()]
    return [(both[0], both[1], volumes[0].spacing) for both in masks if both[0].any() and both[1].any()]


def _add(found: dict[str, list[float]], case: str, work: Callable[[], Any]) -> None:
    start = time.process_time()
    work()
    found.setdefault(case, []).append(time.process_time() - start)
