"""Stands for nnUNetv2_train: the same files in the same order, an epoch taking milliseconds.

    python fake_training.py FOLDER [--c] [--epochs N] [--seconds S] [--at EPOCH:DEED ...] [--deaf]

The weights are a hash chained over the epochs, so that a training that was interrupted and continued shows whether it
went through every epoch once. Deeds: ``fail`` (exit 3), ``die`` (SIGKILL), ``hang``, ``cut`` (a cut latest checkpoint,
then SIGKILL), ``leave`` (as if a scheduler asked), ``nothing`` (ends with 0 and no result); each is done once.
"""

import argparse
import fcntl
import hashlib
import json
import os
import signal
import sys
import time
import zipfile
from pathlib import Path


def save(folder, name, state):
    partial = folder / (name + ".partial")
    with zipfile.ZipFile(partial, "w") as archive:
        archive.writestr(zipfile.ZipInfo("state"), json.dumps(state))
    os.replace(partial, folder / name)


def load(path):
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("state"))


def tell(line):
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def do(deed, folder):
    tell(f"doing {deed}")
    if deed == "fail":
        sys.exit(3)
    if deed == "hang":
        time.sleep(1000)
    if deed == "nothing":
        sys.exit(0)
    if deed == "leave":
        os.kill(os.getpid(), signal.SIGTERM)
    if deed == "cut":
        path = folder / "checkpoint_latest.pth"
        path.write_bytes(path.read_bytes()[:40])
    if deed in ("die", "cut"):
        os.kill(os.getpid(), signal.SIGKILL)


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--c", action="store_true")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0)
    parser.add_argument("--at", nargs="*", default=[])
    parser.add_argument("--deaf", action="store_true")
    return parser.parse_args()


def main():
    args = arguments()
    args.folder.mkdir(parents=True, exist_ok=True)
    race = (args.folder / "race").open("w")
    fcntl.flock(race, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails where two work on the folder
    asked = []
    signal.signal(signal.SIGTERM, signal.SIG_IGN if args.deaf else lambda *_: asked.append(1))
    with (args.folder / "started.txt").open("a") as file:
        file.write("--c\n" if args.c else "new\n")
    state = {"epoch": 0, "value": ""}
    latest = args.folder / "checkpoint_latest.pth"
    if args.c and latest.exists():
        state = load(latest)
    deeds = [deed.split(":") for deed in args.at]
    for epoch in range(state["epoch"], args.epochs):
        for at, deed in deeds:
            done = args.folder / f"done_{at}_{deed}"
            if int(at) == epoch and not done.exists():
                done.touch()
                do(deed, args.folder)
        until = time.monotonic() + args.seconds
        while not asked and time.monotonic() < until:
            time.sleep(0.005)
        if asked:
            save(args.folder, "checkpoint_latest.pth", state)
            tell("saved")
            sys.exit(75)
        state = {"epoch": epoch + 1, "value": hashlib.sha256(f"{state['value']}{epoch}".encode()).hexdigest()}
        tell(f"epoch {epoch}")
        record = {
            "epoch": epoch,
            "learning_rate": 0.01,
            "loss": {"training": 1.0, "validation": 1.0},
            "mean_dice": 0.5 + epoch / 100,
            "ema_dice": 0.5,
            "seconds": {"epoch": args.seconds},
            "memory": {"mean_mib": 10.0, "peak_mib": 20.0},
            "dice": {"whole tumor": 0.5},
        }
        with (args.folder / "progress.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")
        save(args.folder, "checkpoint_latest.pth", state)
    save(args.folder, "checkpoint_final.pth", state)
    latest.unlink(missing_ok=True)
    (args.folder / "validation").mkdir(exist_ok=True)
    (args.folder / "validation" / "summary.json").write_text("{}")


if __name__ == "__main__":
    main()
