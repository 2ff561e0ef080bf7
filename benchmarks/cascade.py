r"""The cascade against nnU-Net's sliding window: time, memory, voxels through the network, Dice, recall.

    python benchmarks/cascade.py --images FOLDER --labels FOLDER -d 501 -p PLANS -tr TRAINER -f FOLD \
        -roi_tr DETECTOR -roi_f FOLD [--cases N] [--single N] [--quality N] [--mirrored N] [--plain-command] \
        [--picture FILE] [--out DIR]

Three parts in one run, on the same cases:

* commands, from NIfTI to NIfTI in cold processes with the files in the page cache, without mirroring: nnU-Net's
  nnUNetv2_predict with its own network on its own plan (untrained: weights do not change the cost), and
  nnUNetv2_predict_cascade with yours; each case by itself (``--single``), then all in one call (``--together``).
  With ``--plain-command`` nnUNetv2_predict with your network as well, and for ``--mirrored`` of the single cases both
  with mirroring. Memory is the largest sum of the proportional set sizes (PSS) of all processes, in runs of its own;
* quality, in this process: the sliding window, the cascade, and the cascade with the true tumour as its ROI, with the
  same weights, the Dice of each and the Dice that the crops allow at most (``--quality`` cases; ``--mirrored`` of them
  with mirroring too);
* recall of the detector against the number of crops, for settings around the defaults (all cases).

Writes cascade.json and cascade.md. Exit codes: 0 done, 2 bad input.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a script's own package is not on the path

from benchmarks import record  # noqa: E402 - needs the path above
from benchmarks.costs.options import run_command, writable  # noqa: E402 - see above
from benchmarks.roi import commands, picture, quality  # noqa: E402 - see above
from nnunet_ext.cascade.predictor import nnUNetCascadePredictor  # noqa: E402 - see above

NAMES = ("cascade.json", "cascade.md")


def cases_of(images: Path, labels: Path, count: int | None) -> dict[str, list[Path]]:
    """Case -> its modalities, for the cases with labels.

    Raises:
        ValueError: there are none.
    """
    names = [p.name.removesuffix("_0000.nii.gz") for p in sorted(images.glob("*_0000.nii.gz"))]
    found = {n: sorted(images.glob(f"{n}_????.nii.gz")) for n in names if (labels / f"{n}.nii.gz").is_file()}
    if not found:
        raise ValueError(f"{images} and {labels} have no case in common (CASE_0000.nii.gz, CASE.nii.gz).")
    return dict([*found.items()][:count])


def command(args: argparse.Namespace) -> int:
    """Runs the parts, prints and writes the tables."""
    folder = writable(args.out, NAMES)
    cases = cases_of(args.images, args.labels, args.cases)
    found: dict[str, Any] = {"environment": record.environment(), "command": record.command(), "cases": list(cases)}
    with tempfile.TemporaryDirectory() as scratch:
        found["commands"] = commands.run_each(args, cases, Path(scratch)) if args.single != 0 or args.together else []
    found["ratios"] = commands.ratios(found["commands"]) if found["commands"] else {}
    found["recall"] = quality.recall(args, cases, args.labels)
    found["quality"] = quality.compare(args, cases, args.labels) if args.quality != 0 else []
    if args.picture:
        _draw(args, cases)
    if args.anonymous:
        found = anonymous(found)
    text = markdown(found)
    print(text)
    (folder / NAMES[0]).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (folder / NAMES[1]).write_text(text, encoding="utf-8")
    return 0


def anonymous(found: Mapping[str, Any]) -> dict[str, Any]:
    """The same with numbers in place of the names of cases, in their order."""
    text = json.dumps(found)
    for number, name in enumerate(found["cases"], 1):
        text = text.replace(f'"{name}"', f'"case {number}"')
    renamed: dict[str, Any] = json.loads(text)
    return renamed


def markdown(found: Mapping[str, Any]) -> str:
    """All tables."""
    parts = [f"`{found['command']}`\n"]
    if found["commands"]:
        header = ("cases", "way", "seconds", "CPU s", "peak MiB", "times faster", "memory")
        parts += ["## Commands\n", record.markdown(header, commands.lines(found["commands"])), ""]
        if middle := found["ratios"]["median of single cases"]:
            parts.append(
                f"Median of single cases: {middle['seconds']:.2f} times faster, "
                f"{1 / middle['memory']:.2f} of the memory.\n"
            )
    parts += ["## Recall against crops\n", record.markdown(*_recall_table(found["recall"])), ""]
    for mirrored in sorted({r["mirrored"] for r in found["quality"]}):
        records = [r for r in found["quality"] if r["mirrored"] == mirrored]
        parts += [f"## Quality, {'with' if mirrored else 'without'} mirroring\n"]
        parts += [record.markdown(*_quality_table(records)), ""]
    return "\n".join(parts)


def _recall_table(rows: Sequence[Mapping[str, Any]]) -> tuple[Sequence[str], list[list[str]]]:
    header = ["settings", "recall in ROI", "worst case", "recall in crops", "components", "missed", "crops a case"]
    header += ["without crops", "times fewer voxels"]
    keys = ("recall_roi", "worst_case_roi", "recall_crops")
    lines = [
        [
            row["settings"],
            *(f"{row[key]:.4f}" for key in keys),
            f"{row['components']:.0f}",
            f"{row['missed']:.0f}",
            f"{row['crops_per_case']:.2f}",
            f"{row['fallbacks']:.0f}",
            f"{row['fewer_voxels']:.1f}",
        ]
        for row in rows
    ]
    return header, lines


def _quality_table(records: Sequence[Mapping[str, Any]]) -> tuple[Sequence[str], list[list[str]]]:
    header = ("case", "way", "WT / TC / ET Dice", "ceiling", "crops", "times fewer voxels")
    ways = list(dict.fromkeys(r["way"] for r in records))
    means = [
        {"case": "mean (voxels: median)", "way": way, **_mean([r for r in records if r["way"] == way])} for way in ways
    ]
    return header, [_quality_line(r) for r in [*records, *means]]


def _mean(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    numbers = {k: sum(r[k] for r in records) / len(records) for k in records[0] if k.startswith(("dice", "ceiling"))}
    if "crops" not in records[0]:
        return numbers
    crops = sum(r["crops"] for r in records) / len(records)
    return {**numbers, "crops": round(crops, 2), "fewer_voxels": median(r["fewer_voxels"] for r in records)}


def _quality_line(record: Mapping[str, Any]) -> list[str]:
    def three(kind: str) -> str:
        found = [record.get(f"{kind}_{name}") for name in quality.REGIONS]
        return " / ".join("-" if f is None else f"{f:.3f}" for f in found)

    fewer = record.get("fewer_voxels")
    ceiling = three("ceiling") if fewer else "-"
    return [
        record["case"],
        record["way"],
        three("dice"),
        ceiling,
        str(record.get("crops", "-")),
        f"{fewer:.1f}" if fewer else "1.0",
    ]


def _draw(args: argparse.Namespace, cases: Mapping[str, Sequence[Path]]) -> None:
    predictor = quality.cascade(args, nnUNetCascadePredictor, mirroring=False)
    name, paths = next(iter(cases.items()))
    picture.draw(name, *quality.preprocessed(predictor, paths, args.labels / f"{name}.nii.gz"), predictor, args.picture)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--images", type=Path, required=True, metavar="FOLDER", help="as nnUNetv2_predict takes them")
    add("--labels", type=Path, required=True, metavar="FOLDER", help="CASE.nii.gz, with nnU-Net's labels 1, 2, 3")
    add("-d", required=True, metavar="DATASET")
    add("-p", default="nnUNetPlans", metavar="PLANS")
    add("-c", default="3d_fullres", metavar="CONFIGURATION")
    add("-tr", required=True, metavar="TRAINER")
    add("-f", default="0", metavar="FOLD")
    add("-roi_tr", default="nnUNetTrainer_ROIMobileUNETR3D_Tiny", metavar="TRAINER")
    add("-roi_c", default="3d_roi", metavar="CONFIGURATION")
    add("-roi_f", default="0", metavar="FOLD")
    add("--stock-plans", default="nnUNetPlans", metavar="PLANS", help="of nnU-Net's own network")
    add("--cases", type=int, metavar="N", help="only the first N (default: all)")
    add("--single", type=int, metavar="N", help="so many cases by themselves (default: all; 0: none)")
    add("--together", action=argparse.BooleanOptionalAction, default=True, help="all cases in one call as well")
    add("--plain-command", action="store_true", help="time nnUNetv2_predict with your network as well")
    add("--quality", type=int, metavar="N", help="Dice of so many cases (default: all; 0: none)")
    add("--mirrored", type=int, default=1, metavar="N", help="so many of them with mirroring too (default: 1)")
    add("--anonymous", action="store_true", help="number the cases, for results that are shown to others")
    add("--picture", type=Path, metavar="FILE", help="PNG of one slice of the first case")
    add("-device", default="cpu", choices=("cpu", "cuda"))
    add("--out", type=Path, default=ROOT / "benchmarks" / "results", metavar="DIR")
    return run_command(command, parser)


if __name__ == "__main__":
    sys.exit(main())
