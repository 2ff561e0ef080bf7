"""Whether time grows with the cases and memory does not: the command on few and on many, links to the same volumes."""

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.processes import measure
from benchmarks.scoring.speed import prepare

MIB = 2**20
CHALLENGE = 1251
"""Cases of BraTS 2021."""


def measure_all(args: argparse.Namespace) -> dict[str, Any]:
    """Seconds, processor seconds and peak memory of the command for each number of cases."""
    rows = []
    with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
        folder = Path(scratch)
        pairs = prepare(args, folder)
        for number in args.numbers:
            place = folder / str(number)
            for index in range(number):
                pair = pairs[index % len(pairs)]
                for kind, path in (("reference", pair.reference), ("prediction", pair.prediction)):
                    assert path is not None
                    (place / kind).mkdir(parents=True, exist_ok=True)
                    os.link(path, place / kind / f"BraTS-GLI-{index:05d}-000.nii.gz")
            words = [str(place / kind) for kind in ("reference", "prediction")]
            options = ["-o", str(place / "out"), "--jobs", str(args.jobs)]
            command = [sys.executable, "-m", "nnunet_ext", "evaluate", *words, *options]
            rows.append({"cases": number, **measure(command, {"OMP_NUM_THREADS": "1"})})
    per_case = (rows[-1]["cpu"] - rows[0]["cpu"]) / (rows[-1]["cases"] - rows[0]["cases"])
    ratio = rows[-1]["memory"] / rows[0]["memory"]
    return {"jobs": args.jobs, "rows": rows, "cpu_per_case": per_case, "memory_ratio": ratio}


def page(report: dict[str, Any]) -> list[str]:
    """The report as lines of a page."""
    lines = [
        f"`nnunet_ext evaluate` with --jobs {report['jobs']}: all metrics of five regions and classes of cases of"
        " 240 x 240 x 155 voxels. Memory is the largest sum over all processes; shared pages count several times.",
        *("", "| cases | s | processor s | peak MiB |", "|---:|---:|---:|---:|"),
    ]
    lines += [
        f"| {r['cases']} | {r['seconds']:.1f} | {r['cpu']:.1f} | {r['memory'] / MIB:.0f} |" for r in report["rows"]
    ]
    minutes = CHALLENGE * report["cpu_per_case"] / report["jobs"] / 60
    lines += [
        "",
        f"A further case takes {report['cpu_per_case']:.2f} s of a processor: {CHALLENGE} cases {minutes:.1f} minutes"
        f" on {report['jobs']} free cores. Peak memory, the most cases to the fewest: {report['memory_ratio']:.2f}.",
    ]
    return lines
