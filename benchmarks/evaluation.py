"""Measure nnunet_ext.evaluation against the official programs: are the values equal, and how much faster is it?

    python benchmarks/evaluation.py agreement --official PYTHON [--organisers EVAL_PY] [--pairs 2000] [--table JSON]
    python benchmarks/evaluation.py speed --official PYTHON [--source BRATS_TREE] [--cases 4] [--repeats 3]
    python benchmarks/evaluation.py many [--source BRATS_TREE] [--cases 4] [--numbers 20 80] [--jobs 2]

PYTHON is that of an environment with brats-evaluation 0.0.10 (and nibabel and surface-distance for EVAL_PY, the
organisers' eval.py of BraTS 2023). ``agreement`` compares random small volumes; medpy and surface-distance run in this
environment. ``speed`` evaluates whole cases (phantoms of full size, or those of a tree, against moved copies with a
spot and a hole) by all ways in turn in one run and reports ratios of processor time. ``many`` runs the command on few
and on many cases. Results go to benchmarks/results.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a script's own package is not on the path

from benchmarks import record  # noqa: E402 - needs the path above
from benchmarks.scoring import agreement, many, speed  # noqa: E402 - needs the path above

RESULTS = ROOT / "benchmarks" / "results"
LIBRARIES = ("numpy", "scipy", "SimpleITK", "connected-components-3d", "medpy", "surface-distance")
STORED = 240


def compare(args: argparse.Namespace) -> dict[str, Any]:
    """Values of the official programs and of libraries beside ours."""
    with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
        found = {"brats2026-gli": agreement.official(args.official, "brats2026-gli", args.pairs, Path(scratch))}
        if args.organisers:
            given = (args.official, "brats2023", args.pairs, Path(scratch), args.organisers)
            found["brats2023"] = agreement.official(*given)
    differences = {name: agreement.largest_differences(name, program["found"]) for name, program in found.items()}
    if args.table:
        args.table.write_text(agreement.table(range(STORED), found), encoding="utf-8")
    versions = {name: program["versions"] for name, program in found.items()}
    return {
        "pairs": args.pairs,
        "official": versions,
        "differences": differences,
        "libraries": agreement.libraries(args.pairs),
    }


def agreement_page(report: dict[str, Any]) -> list[str]:
    """The report as lines of a page."""
    lines = [f"{report['pairs']} pairs of random volumes; a value differs beyond {agreement.LIMIT:g}.", ""]
    lines += [
        "| convention or library | metric | values | largest difference | different |",
        "|---|---|---:|---:|---:|",
    ]
    for name, metrics in {**report["differences"], "library": report["libraries"]}.items():
        for metric, row in metrics.items():
            lines.append(f"| {name} | {metric} | {row['values']} | {row['largest']:.2g} | {row['different']} |")
    lines += [
        "",
        *(f"{name}: {', '.join(f'{k} {v}' for k, v in row.items())}." for name, row in report["official"].items()),
    ]
    return lines


WAYS = {
    "agreement": ("agreement with the official programs", compare, agreement_page),
    "speed": ("speed", speed.measure_all, speed.page),
    "many": ("many cases", many.measure_all, many.page),
}


def parse() -> argparse.Namespace:
    """The command's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=list(WAYS))
    parser.add_argument("--official", type=Path, metavar="PYTHON")
    parser.add_argument("--organisers", type=Path, metavar="EVAL_PY")
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--table", type=Path, help="where to write the values that the tests compare with")
    parser.add_argument("--source", type=Path, help="BraTS tree up to 2021; phantoms if left out")
    parser.add_argument("--cases", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--numbers", type=int, nargs="+", default=[20, 80])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--scratch", type=Path)
    parser.add_argument(
        "--out", type=Path, help="result files without ending (default: benchmarks/results/evaluation_WHAT)"
    )
    return parser.parse_args()


def main() -> None:
    """The command."""
    args = parse()
    report: dict[str, Any] = {
        "command": record.command(),
        **record.environment(LIBRARIES),
    }
    title, made, page = WAYS[args.what]
    if args.what != "many" and args.official is None:
        sys.exit("Name the Python of an environment with brats-evaluation with --official.")
    report |= made(args)
    versions = ", ".join(f"{name} {number}" for name, number in report["versions"].items())
    lines = [
        f"# Evaluation: {title}",
        "",
        f"    {report['command']}",
        "",
        f"Commit {report['commit']}; {versions}.",
        "",
        *page(report),
    ]
    out = args.out or RESULTS / f"evaluation_{args.what}"
    out.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    out.with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
