"""A sweep's driver, workers and head are killed at random; started again, does it end with the same results?

    python benchmarks/sweep_kills.py --kills 20 --out benchmarks/results/sweep_kills.json

Kills the driver, a worker, and the head (raylet or GCS) of a sweep so often each, starts the sweep again where its
driver has ended, and compares the results with undisturbed ones. Exit codes: 0 all equal, 1 one is not, 2 bad input.
"""

import argparse
import random
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a script's own package is not on the path

from benchmarks.record import environment, origin, write_json  # noqa: E402 - needs the path above
from benchmarks.sweeps.kills import VICTIMS, Sweep, sweeps, table  # noqa: E402 - see above

PACKAGES = ("nnunet_ext", "ray", "filelock")


def main() -> int:
    """Runs it; writes after each sweep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="of each victim")
    parser.add_argument("--victims", nargs="+", choices=VICTIMS, default=VICTIMS)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path, help="a .json; the table goes beside it")
    args = parser.parse_args()
    found: list[Sweep] = []
    facts = environment(PACKAGES)
    chance = random.Random(args.seed)  # noqa: S311 - moments, no secrets
    with tempfile.TemporaryDirectory() as folder:
        for victim in args.victims:
            for one in sweeps(Path(folder), victim, args.kills, chance):
                found.append(one)
                print(f"{victim}: {one.killed} {one.codes} {'equal' if one.equal else 'differs'}", flush=True)
                if args.out:
                    write_json(args.out, [asdict(each) for each in found])
                    args.out.with_suffix(".md").write_text(f"{table(found)}\n\n{origin(facts)}\n", encoding="utf-8")
    print(table(found))
    return int(not all(one.equal and not one.repeated for one in found))


if __name__ == "__main__":
    sys.exit(main())
