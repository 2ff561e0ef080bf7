"""Two workers, N equal trainings: how much longer than N/2 trainings alone?

    python benchmarks/sweep_throughput.py --out benchmarks/results/sweep_throughput.json

Trains a tiny network on phantoms: alone some times, then N times by hand, two at a time, then N times by a sweep with
two workers, whose time has Ray's start and end in it. Two trainings at once share the machine's memory: what they lose
by that is told by those by hand, what the sweep adds by the rest. Exit codes: 0 at most 1.15 times, 1 longer, 2 bad
input.
"""

import argparse
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a script's own package is not on the path

from benchmarks.record import write_json  # noqa: E402 - needs the path above
from benchmarks.sweeps.throughput import MOST, busy, measured  # noqa: E402 - see above


def main() -> int:
    """Measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=4, help="by two workers")
    parser.add_argument("--singles", type=int, default=3, help="alone, of which the median counts")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=50, help="of an epoch")
    parser.add_argument("--out", type=Path, help="a .json")
    args = parser.parse_args()
    load = busy()
    with tempfile.TemporaryDirectory() as folder:
        found = measured(Path(folder), args.runs, args.singles, args.epochs, args.steps)
    print(f"{found}; the machine's load before: {load}")
    if args.out:
        write_json(args.out, [asdict(found)], load_before=load, most=MOST)
    return int(found.ratio > MOST)


if __name__ == "__main__":
    sys.exit(main())
