"""What our base trainer costs a training step: nnU-Net's own trainer beside ours, same network, same data, in turn.

    python benchmarks/overhead.py --steps 12 --rounds 12 --out benchmarks/results/overhead_cpu.json

Each round trains so many steps with each trainer, in another order each time; a step is the batch, the training step
and what follows it. All is done in one process, so its processor seconds are those of the steps, whatever else the
machine does. Given are medians over the rounds of the ratio to nnU-Net's trainer in the same round. Writes OUT and a
table beside it. Exit codes: 0 within the limits (2 % without, 5 % with a seed), 1 above them, 2 bad input.
"""

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a script's own package is not on the path
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch

import torch  # noqa: E402 - needs the variable above
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer  # noqa: E402 - see above

from benchmarks.interruptions.runs import CONFIGURATION, PLANS, Training  # noqa: E402 - see above
from benchmarks.record import environment, markdown, origin, write_json  # noqa: E402 - see above
from nnunet_ext.trainers import trainer_class  # noqa: E402 - see above
from tests.trainers import workspace  # noqa: E402 - see above

NETWORK = "nnunet_ext.networks.models.DualBranchGhost"
SIZE = "XS"
PACKAGES = ("nnunet_ext", "nnunetv2", "torch", "numpy")
STOCK = "nnUNetTrainer"
OURS = {"without a seed": "nnUNetTrainer_DualBranchGhost_XS", "with a seed": "nnUNetTrainer_DualBranchGhost_XS_seed1"}
LIMITS = {"without a seed": 0.02, "with a seed": 0.05}


def trainer_for(root: Path, name: str, steps: int) -> Any:
    """A trainer that has begun its training."""
    folder = root / "preprocessed" / workspace.DATASET
    plans, dataset = (json.loads((folder / f"{n}.json").read_text("utf-8")) for n in (PLANS, "dataset"))
    made: Callable[..., Any] = trainer_class(name) if name != STOCK else nnUNetTrainer
    if name == STOCK:  # the same network, as a plans file names it
        architecture = plans["configurations"][CONFIGURATION]["architecture"]
        architecture["network_class_name"] = NETWORK
        architecture["arch_kwargs"]["size"] = SIZE
    trainer = made({**plans, "continue_training": False}, CONFIGURATION, 0, dataset, torch.device("cpu"))
    trainer.num_iterations_per_epoch = steps
    trainer.disable_checkpointing = True
    trainer.on_train_start()
    return trainer


def seconds_of(trainer: Any, steps: int) -> float:
    """Processor seconds of the training part of an epoch, for each step."""
    trainer.on_epoch_start()
    began = time.process_time()
    if type(trainer) is nnUNetTrainer:
        trainer.on_train_epoch_start()
        outputs = [trainer.train_step(next(trainer.dataloader_train)) for _ in range(steps)]
        trainer.on_train_epoch_end(outputs)
    else:
        trainer._train_epoch()
    seconds = (time.process_time() - began) / steps
    trainer.current_epoch += 1
    return seconds


def measured(root: Path, steps: int, rounds: int) -> dict[str, list[float]]:
    """Seconds a step, for each trainer and round; the first round warms up and is left out."""
    trainers = {STOCK: trainer_for(root, STOCK, steps)}
    trainers |= {kind: trainer_for(root, name, steps) for kind, name in OURS.items()}
    found: dict[str, list[float]] = {kind: [] for kind in trainers}
    order = list(trainers)
    for number in range(rounds + 1):
        random.Random(number).shuffle(order)  # noqa: S311 - an order, no secret
        for kind in order:
            seconds = seconds_of(trainers[kind], steps)
            found[kind] += [seconds] if number else []
    return found


def write_dataset(root: Path, patch: int) -> None:
    """The tiny dataset with a patch of a size at which the network's step is what takes the time."""
    path = workspace.write(root) / f"{PLANS}.json"
    plans = json.loads(path.read_text("utf-8"))
    configuration = plans["configurations"][CONFIGURATION]
    configuration["patch_size"] = [patch] * 3
    path.write_text(json.dumps(plans), "utf-8")


def result(found: dict[str, list[float]]) -> list[dict[str, Any]]:
    """One record for each of our trainers: the median of the ratios, and the middle half of them."""
    records = []
    for kind in OURS:
        ratios = [ours / stock - 1 for ours, stock in zip(found[kind], found[STOCK], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        records.append(
            {
                "trainer": kind,
                "seconds": statistics.median(found[kind]),
                "nnunet_seconds": statistics.median(found[STOCK]),
                "overhead": middle,
                "quartiles": [low, high],
                "limit": LIMITS[kind],
            }
        )
    return records


def table(records: list[dict[str, Any]], facts: dict[str, Any]) -> str:
    """The records for people."""
    header = ("our trainer", "ms a step", "nnU-Net's", "overhead", "middle half of the rounds", "limit")
    rows = [
        [
            r["trainer"],
            f"{r['seconds'] * 1e3:.1f}",
            f"{r['nnunet_seconds'] * 1e3:.1f}",
            f"{r['overhead']:+.1%}",
            f"{r['quartiles'][0]:+.1%} to {r['quartiles'][1]:+.1%}",
            f"{r['limit']:.0%}",
        ]
        for r in records
    ]
    return markdown(header, rows) + f"\n\n{origin(facts)}\n"


def main() -> int:
    """Runs it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--patch", type=int, default=32, help="edge of the patch, a multiple of 4")
    parser.add_argument("--out", type=Path, help="a .json; the table goes beside it")
    args = parser.parse_args()
    facts = environment(PACKAGES)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_dataset(root, args.patch)
        os.environ.update(Training(root, root / "results", STOCK).environment(workers=0))
        torch.set_num_threads(1)
        records = result(measured(root, args.steps, args.rounds))
    if args.out:
        write_json(args.out, records)
        args.out.with_suffix(".md").write_text(table(records, facts), "utf-8")
    print(table(records, facts))
    return int(any(record["overhead"] > record["limit"] for record in records))


if __name__ == "__main__":
    sys.exit(main())
