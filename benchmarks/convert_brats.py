"""Measure the converter against a serial one without audit, on the same cases in one run.

    python benchmarks/convert_brats.py [--source BRATS_TREE] [--cases N ...] [--jobs 2] [--repeats 3]
        [--scratch DIR] [--out RESULTS/convert_brats]

Each number of cases is measured by itself: cases beyond those of the source (by default four phantoms of full size)
are links to them under other names (so ``--allow-duplicates``). Time is of the whole process, with imports, the median
of the repeats, which take turns; memory is the largest sum of the resident sets of all processes, read every 20 ms from
the process table of Linux; bytes are of the files that are no hard links. Writes ``--out`` with the endings .json and
.md.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a script's own package is not on the path

from benchmarks import record  # noqa: E402 - needs the path above
from benchmarks.processes import measure  # noqa: E402 - see above

CONVERTER = ROOT / "dataset_conversion" / "convert_brats.py"
PHANTOMS = ROOT / "dataset_conversion" / "phantom_brats.py"
PEER = ROOT / "benchmarks" / "peers" / "serial_conversion.py"
PACKAGES = ("nibabel", "numpy", "SimpleITK", "isal")
MIB = 2**20


def written(folder: Path) -> int:
    """Bytes of the files below ``folder`` that are no hard links."""
    statuses = (path.stat() for path in folder.rglob("*") if path.is_file())
    return sum(status.st_size for status in statuses if status.st_nlink == 1)


def link_cases(source: Path, target: Path, number: int) -> None:
    """Make a BraTS 2021 tree of ``number`` cases, links to those of ``source`` in turn."""
    folders = sorted({path.parent for path in source.rglob("*_seg.nii.gz")})
    for index in range(number):
        folder = folders[index % len(folders)]
        case = target / f"BraTS2021_{index:05d}"
        case.mkdir(parents=True)
        for kind in ("t1", "t1ce", "t2", "flair", "seg"):
            os.link(folder / f"{folder.name}_{kind}.nii.gz", case / f"{case.name}_{kind}.nii.gz")


def repeat(tree: Path, raw: Path, jobs: int) -> dict[str, dict[str, float]]:
    """Measure each way once; ``raw`` is removed afterwards."""
    ours = [sys.executable, str(CONVERTER), str(tree), "--dataset-id", "1", "--jobs", str(jobs), "--allow-duplicates"]
    environment = {"nnUNet_raw": str(raw)}
    result = {"peer": measure([sys.executable, str(PEER), str(tree), str(raw / "peer")], environment)}
    result["audit alone (--dry-run)"] = measure([*ours, "--dry-run"], environment)
    result["first run"] = measure(ours, environment)
    result["second run"] = measure(ours, environment)
    result["peer"]["bytes"] = written(raw / "peer")
    result["first run"]["bytes"] = written(raw / "Dataset001_BraTS2021")
    shutil.rmtree(raw)
    return result


def summarise(repeats: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Median, smallest and largest time, largest memory, and bytes of each way."""
    summary = {}
    for way in repeats[0]:
        seconds = [measured[way]["seconds"] for measured in repeats]
        summary[way] = {
            "seconds": median(seconds),
            "fastest": min(seconds),
            "slowest": max(seconds),
            "cpu_seconds": median(measured[way]["cpu"] for measured in repeats),
            "peak_mib": max(measured[way]["memory"] for measured in repeats) / MIB,
            "written_mib": repeats[0][way].get("bytes", 0) / MIB,
        }
    return summary


def ratios(ways: dict[str, dict[str, float]]) -> dict[str, float]:
    """The figures that have a limit, and the audit's share of the first run."""
    first, peer = ways["first run"], ways["peer"]
    return {
        "bytes, first run / peer (limit 0.05)": first["written_mib"] / peer["written_mib"],
        "time, first run / peer (limit 2)": first["seconds"] / peer["seconds"],
        "time, second run / first run (limit 0.1)": ways["second run"]["seconds"] / first["seconds"],
        "peak memory in MiB (limit 1024)": max(ways[way]["peak_mib"] for way in ways if way != "peer"),
        "share of the audit in the first run": ways["audit alone (--dry-run)"]["seconds"] / first["seconds"],
        "processor time, first run / peer": first["cpu_seconds"] / peer["cpu_seconds"],
    }


def markdown(report: dict[str, Any]) -> str:
    """The report as a page."""
    lines = ["# Conversion against a serial converter without audit", "", f"    {report['command']}", ""]
    facts = ", ".join(f"{name} {number}" for name, number in report["versions"].items() if number)
    where = f"{report['cases']}; {report['hardware']['processor']}; load {report['load']}"
    lines += [f"{where}; {facts}. Medians of {report['repeats']}."]
    for number, block in report["results"].items():
        lines += ["", f"## {number} cases", "", "| way | s | fastest - slowest | CPU s | MiB written | peak MiB |"]
        lines += ["|---|---:|---:|---:|---:|---:|"]
        for way, row in block["ways"].items():
            times = f"{row['seconds']:.2f} | {row['fastest']:.2f} - {row['slowest']:.2f} | {row['cpu_seconds']:.2f}"
            lines.append(f"| {way} | {times} | {row['written_mib']:.2f} | {row['peak_mib']:.0f} |")
        lines += ["", "| ratio | |", "|---|---:|"]
        lines += [f"| {name} | {value:.3g} |" for name, value in block["ratios"].items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, help="BraTS tree up to 2021; four phantoms of full size if left out")
    parser.add_argument("--cases", type=int, nargs="+", default=[20, 80])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--scratch", type=Path, help="folder on the file system to measure (default: the system's)")
    parser.add_argument(
        "--out", type=Path, default=record.RESULTS / "convert_brats", help="result files without ending"
    )
    args = parser.parse_args()
    report: dict[str, Any] = {
        "command": record.command(),
        "cases": "phantoms, 240 x 240 x 155" if args.source is None else "real cases",
        **record.environment(PACKAGES),
        "load": f"{os.getloadavg()[0]:.1f} at the start, own niceness {os.nice(0)}",
        "repeats": args.repeats,
        "results": {},
    }
    with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
        source = args.source or Path(scratch) / "phantoms"
        if args.source is None:
            subprocess.run(
                [sys.executable, str(PHANTOMS), str(source), "--cases", "4", "--edition", "2021"], check=True
            )
        for number in args.cases:
            tree = Path(scratch) / f"tree{number}"
            link_cases(source, tree, number)
            runs = range(args.repeats + 1)  # the first only warms the caches
            repeats = [repeat(tree, Path(scratch) / "raw", args.jobs) for _ in tqdm(runs, desc=f"{number} cases")][1:]
            ways = summarise(repeats)
            report["results"][number] = {"ways": ways, "ratios": ratios(ways)}
    args.out.with_suffix(".json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    page = markdown(report)
    args.out.with_suffix(".md").write_text(page, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()
