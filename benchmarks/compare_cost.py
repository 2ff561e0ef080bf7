"""Compares two JSON files of pam.py, flops.py or latency.py, and says with its exit code whether anything got dearer.

    python benchmarks/compare_cost.py BASE.json HEAD.json [--band 5]

A figure counts as dearer if it rose by more than the band (percent); a measured one only if it also left the spread of
its own repeats (two standard deviations; for latency, the 90th percentile of the base). Exact figures, parameters and
MACs, have no band. Rows of only one of the files are listed and not compared, and change no exit code.

Exit code: 0 nothing dearer, 1 something is, 2 bad input: other files, or files without a row in common.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEARER, BAD_INPUT = 1, 2
NEEDED = ("registry_name", "size", "input_shape", "batch")
KEY = (*NEEDED, "precision", "device", "accumulation")  # the latter are not in every file
EXACT = ("parameters", "macs")
BANDED = ("pam_train_mib", "pam_inference_mib", "copies_mib", "temporaries_mib", "total_train_mib", "median_ms")
# the column that says how far a figure strays by itself: as a limit, or as a standard deviation
SPREAD = {"median_ms": "p90_ms", "pam_train_mib": "pam_sd_mib", "total_train_mib": "pam_sd_mib"}
DEVIATIONS = 2


@dataclass(frozen=True)
class Change:
    """One figure that differs between the files."""

    row: str
    figure: str
    base: float
    head: float
    dearer: bool

    def __str__(self) -> str:
        ratio = f"{100 * (self.head / self.base - 1):+.1f} %" if self.base else "from 0"
        verdict = "DEARER" if self.dearer else "within the band" if self.head > self.base else "cheaper"
        return f"{self.row}: {self.figure} {self.base:,.10g} -> {self.head:,.10g} ({ratio}) {verdict}"


def read(path: Path) -> dict[tuple[Any, ...], Mapping[str, Any]]:
    """The rows of a file by what identifies them.

    Raises:
        ValueError: not a file of these benchmarks.
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
        return {(*(row[name] for name in NEEDED), *(row.get(name) for name in KEY[len(NEEDED) :])): row for row in rows}
    except (OSError, json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no JSON file of pam.py, flops.py or latency.py ({error}).") from error


def changes(base: Mapping[str, Any], head: Mapping[str, Any], band: float) -> Iterator[Change]:
    """What differs in one row; ``band`` is a part of the base."""
    name = " ".join(str(base[k]) for k in ("registry_name", "size") if base.get(k))
    for figure in (*EXACT, *BANDED):
        before, after = base.get(figure), head.get(figure)
        if before is None or after is None or before == after:
            continue
        limit = before if figure in EXACT else max(before * (1 + band), _spread(figure, base))
        yield Change(name, figure, before, after, after > limit)
    if base.get("status") == "ok" and head.get("status") != "ok":
        yield Change(f"{name} ({head.get('status')})", "failures", 0, 1, dearer=True)


def _spread(figure: str, base: Mapping[str, Any]) -> float:
    """The highest value that the base's own repeats allow."""
    spread = base.get(SPREAD.get(figure, "")) or 0.0
    return float(spread if figure == "median_ms" else base[figure] + DEVIATIONS * spread)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="compare_cost.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("base", type=Path)
    parser.add_argument("head", type=Path)
    parser.add_argument("--band", type=float, default=5.0, help="percent (default: 5)")
    args = parser.parse_args()
    try:
        base, head = read(args.base), read(args.head)
        if not base.keys() & head.keys():
            raise ValueError(f"{args.base} and {args.head} have no row in common, so nothing can be compared.")
    except ValueError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return BAD_INPUT
    found = [c for key in base if key in head for c in changes(base[key], head[key], args.band / 100)]
    for change in found:
        print(change)
    for which, lonely in (("BASE", base.keys() - head.keys()), ("HEAD", head.keys() - base.keys())):
        for key in sorted(lonely, key=str):
            print(f"only in {which}: {' '.join(str(part) for part in key if part)}")
    dearer = sum(change.dearer for change in found)
    print(f"{len(base.keys() & head.keys())} rows compared, {dearer} figures dearer")
    return DEARER if dearer else 0


if __name__ == "__main__":
    sys.exit(main())
