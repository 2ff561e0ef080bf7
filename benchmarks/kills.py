"""Killed at random, continued with --c: is the result that of a training that was never killed, byte by byte?

    python benchmarks/kills.py --kills 100 --out benchmarks/results/kills.json      (make kills)

Each run trains a tiny network on phantoms, is killed by SIGKILL once, or three times, at random moments, with a random
number of augmentation workers, and goes on with another number of them. Its final and best checkpoint are compared with
those of the uninterrupted training. Writes OUT and a table beside it. Exit codes: 0 all equal, 1 one is not, 2 bad
input.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # a script's own package is not on the path
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: forked processes share the processors

from benchmarks.interruptions.fingerprint import fingerprint, weights_of  # noqa: E402 - needs the path above
from benchmarks.interruptions.runs import FORK, Training, kill  # noqa: E402 - see above
from benchmarks.record import environment, markdown, origin, write_json  # noqa: E402 - see above
from nnunet_ext.trainers.checkpoints import BEST, FINAL  # noqa: E402 - see above
from tests.trainers import workspace  # noqa: E402 - see above

TRAINERS = (  # nnU-Net's SGD, and AdamW, whose state has numbers beside tensors
    "nnUNetTrainer_DualBranchGhost_XS_3epochs_iter5_seed42",
    "nnUNetTrainer_DualBranchShuffleV2_XS_3epochs_iter5_seed42",
)
WORKERS = (0, 1, 2, 3)
SAVING: dict[str, dict[str, int]] = {
    "every step": {"save_steps": 1, "save_every": 1},
    "every second step": {"save_steps": 2},
    "every epoch": {"save_every": 1},
}
PACKAGES = ("nnunet_ext", "nnunetv2", "torch", "numpy")
HOOKS = ("on_train_start", "train_step", "validation_step", "_write", "on_epoch_end", "on_train_end")
PHASES = ("between", *HOOKS)


@dataclass
class Interrupted:
    """One training that was killed and continued.

    Attributes:
        trainer: its name.
        saving: when it is saved.
        workers: of each process in turn.
        killed_in: the hook in which each kill came.
        after_seconds: when, from the start of the training or its continuation.
        equal: whether final and best checkpoint are those of the uninterrupted training.
        differs: members of the checkpoints that are not.
        sha256: of weights and optimiser at the end.
    """

    trainer: str
    saving: str
    workers: list[int] = field(default_factory=list)
    killed_in: list[str] = field(default_factory=list)
    after_seconds: list[float] = field(default_factory=list)
    equal: bool = False
    differs: list[str] = field(default_factory=list)
    sha256: str = ""


def watched(phase: Any) -> Any:
    """A change of a trainer after which ``phase`` always says in which hook the process is."""

    def change(trainer: Any) -> None:
        for number, hook in enumerate(PHASES[1:], start=1):
            setattr(trainer, hook, _noting(getattr(trainer, hook), number, phase))

    return change


def _noting(function: Any, number: int, phase: Any) -> Any:
    def called(*args: Any, **kwargs: Any) -> Any:
        before, phase.value = phase.value, number
        result = function(*args, **kwargs)
        phase.value = max(before, 0)
        return result

    return called


def run_until(training: Training, workers: int, goes_on: bool, seconds: float) -> str | None:
    """Starts a training and kills it so long after it began to train; the hook, or None if it had ended before."""
    phase = FORK.RawValue("i", -1)
    process = training.start(workers, goes_on, watched(phase))
    while phase.value < 0 and process.is_alive():
        time.sleep(0.001)
    process.join(seconds)
    if not process.is_alive():
        assert process.exitcode == 0, training.outputs()
        return None
    kill(process)
    return PHASES[phase.value]


def interrupted(training: Training, saving: str, kills: int, duration: float, chance: random.Random) -> Interrupted:
    """Kills a training so often, and has it finish."""
    found = Interrupted(training.name, saving)
    while len(found.killed_in) < kills:
        workers, seconds = chance.choice(WORKERS), chance.uniform(0, duration)
        hook = run_until(training, workers, bool(found.workers), seconds)
        found.workers.append(workers)
        if hook is None:
            return found  # it was quicker than the clock: fewer kills, or none
        found.killed_in.append(hook)
        found.after_seconds.append(round(seconds, 3))
    found.workers.append(chance.choice(WORKERS))
    code = training.run(found.workers[-1], goes_on=True)
    assert code == 0, training.outputs()
    return found


def judged(found: Interrupted, folder: Path, whole: Path) -> Interrupted:
    """With the comparison of its checkpoints."""
    pairs = {name: (fingerprint(folder / name), fingerprint(whole / name)) for name in (FINAL, BEST)}
    found.differs = [
        f"{name}: {member}"
        for name, (mine, other) in pairs.items()
        for member in sorted(mine.keys() | other.keys())
        if mine.get(member) != other.get(member)
    ]
    found.equal = not found.differs
    found.sha256 = weights_of(folder / FINAL)
    return found


def trainings(root: Path, kills: int, chance: random.Random) -> Iterator[Interrupted]:
    """As many interrupted trainings as it takes to be killed so often."""
    wholes = {name: uninterrupted(root, name) for name in TRAINERS}
    killed = number = 0
    while killed < kills:
        name, saving = chance.choice(TRAINERS), chance.choice(sorted(SAVING))
        training = Training(root, root / f"results_{number}", name, SAVING[saving])
        whole, duration = wholes[name]
        found = interrupted(training, saving, min(chance.choice((1, 1, 3)), kills - killed), duration, chance)
        killed += len(found.killed_in)
        number += 1
        if found.killed_in:
            yield judged(found, training.folder, whole.folder)


def uninterrupted(root: Path, name: str) -> tuple[Training, float]:
    """The training that is not killed, with two workers, and the seconds that it took from its beginning."""
    training, phase = Training(root, root / name, name), FORK.RawValue("i", -1)
    process = training.start(2, change=watched(phase))
    while phase.value < 0 and process.is_alive():
        time.sleep(0.001)
    began = time.monotonic()
    process.join()
    assert process.exitcode == 0, training.outputs()
    return training, time.monotonic() - began


def table(found: list[Interrupted], facts: dict[str, Any]) -> str:
    """The kills by hook, and the command that made them."""
    by_hook: dict[str, Counter[str]] = {}
    for one in found:
        for hook in one.killed_in:
            by_hook.setdefault(hook, Counter()).update(["kills", *["equal"] * one.equal])
    rows = [[f"`{h}`", str(by_hook[h]["kills"]), str(by_hook[h]["equal"])] for h in PHASES if h in by_hook]
    kills, equal = (sum(count[key] for count in by_hook.values()) for key in ("kills", "equal"))
    workers = sum(len(set(one.workers)) > 1 for one in found)
    return (
        f"{equal} of {kills} kills left no trace: {len(found)} trainings, of which {sum(o.equal for o in found)} ended "
        f"with the bytes of the uninterrupted one (final and best checkpoint, but for time stamps); {workers} of them "
        f"went on with another number of workers.\n\n"
        + markdown(("killed in", "kills", "same bytes in the end"), [*rows, ["all", str(kills), str(equal)]])
        + f"\n\n{origin(facts)}\n"
    )


def main() -> int:
    """Runs it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path, help="a .json; the table goes beside it")
    args = parser.parse_args()
    found: list[Interrupted] = []
    facts = environment(PACKAGES)
    with tempfile.TemporaryDirectory() as folder:
        workspace.write(Path(folder))
        for one in trainings(Path(folder), args.kills, random.Random(args.seed)):  # noqa: S311 - moments, no secrets
            found.append(one)
            print(
                f"{sum(len(o.killed_in) for o in found)}: {one.killed_in} {'equal' if one.equal else one.differs}",
                flush=True,
            )
            if args.out:
                write_json(args.out, [asdict(o) for o in found])
                args.out.with_suffix(".md").write_text(table(found, facts), "utf-8")
    print(table(found, facts))
    return int(not all(one.equal for one in found))


if __name__ == "__main__":
    sys.exit(main())
