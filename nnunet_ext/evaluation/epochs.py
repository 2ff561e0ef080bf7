"""What each epoch of a training reached: from our ``progress.jsonl``, or from nnU-Net's own log files.

nnU-Net keeps these values in its checkpoints as well, but reading those takes torch and trust.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from math import isnan
from pathlib import Path
from typing import Any

PROGRESS = "progress.jsonl"
COLUMNS = ("epoch", "lr", "train_loss", "val_loss", "pseudo_dice", "ema_pseudo_dice", "seconds")
NUMBER = r"[-+]?(?:[0-9.]+(?:e[-+]?[0-9]+)?|nan|inf)"
# a line is "<date> <time>: <words>"; NumPy 2 prints its numbers as np.float32(...)
LINE = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?: ?(?P<words>.*)$")
WORDS = {
    "lr": re.compile(rf"Current learning rate: ({NUMBER})"),
    "train_loss": re.compile(rf"train_loss ({NUMBER})"),
    "val_loss": re.compile(rf"val_loss ({NUMBER})"),
    "seconds": re.compile(rf"Epoch time: ({NUMBER}) s"),
}
EPOCH = re.compile(r"Epoch (\d+)\s*$")
DICE = re.compile(r"Pseudo dice \[(.*)\]")
DICE_VALUE = re.compile(rf"(?:np\.float\d+\()?({NUMBER})\)?")
EMA = 0.9  # nnU-Net's weight of the past


def epochs_of(folder: Path) -> list[dict[str, Any]]:
    """One record an epoch, in their order, with the keys of ``COLUMNS`` and ``pseudo_dice_<region>``; None if unknown.

    A training that was continued has some epochs twice; the later one counts, for its weights went on.
    """
    if (folder / PROGRESS).is_file():
        records: Iterable[dict[str, Any]] = _of_progress(folder / PROGRESS)
    else:
        records = (record for log in sorted(folder.glob("training_log_*.txt")) for record in _of_log(log))
    last = {record["epoch"]: record for record in records}
    return _with_ema([last[epoch] for epoch in sorted(last)])


def _of_progress(path: Path) -> Iterator[dict[str, Any]]:
    """What our trainers write; a line without an end was cut short with its process."""
    *lines, _ = path.read_text(encoding="utf-8").split("\n")
    for number, line in enumerate(lines, 1):
        try:
            told = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}, cannot be read ({error}); remove the line.") from error
        yield {
            "epoch": told["epoch"],
            "lr": told["learning_rate"],
            "train_loss": told["loss"]["training"],
            "val_loss": told["loss"]["validation"],
            "pseudo_dice": told["mean_dice"],
            "ema_pseudo_dice": told["ema_dice"],
            "seconds": told["seconds"]["epoch"],
            "peak_mib": told["memory"]["peak_mib"],
            **{f"pseudo_dice_{region}": value for region, value in told["dice"].items()},
        }


def _of_log(path: Path) -> Iterator[dict[str, Any]]:
    """Epochs that were finished: their time stands in the log's last line of an epoch."""
    found: dict[str, Any] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        matched = LINE.match(line)
        words = matched["words"] if matched else ""
        if started := EPOCH.match(words):
            found = {"epoch": int(started[1])}
        for name, pattern in WORDS.items():
            if number := pattern.search(words):
                found[name] = float(number[1])
        if dice := DICE.search(words):
            values = [float(value) for value in DICE_VALUE.findall(dice[1])]
            found["pseudo_dice_of"] = dict(enumerate(values, 1))
        if "seconds" in found and "epoch" in found:
            yield _record(found)
            found = {}


def _record(found: Mapping[str, Any]) -> dict[str, Any]:
    """Of what a log tells; nnU-Net has NaN for a region in no image, and no names of regions."""
    by_region: Mapping[int, float] = found.get("pseudo_dice_of") or {}
    known = [value for value in by_region.values() if not isnan(value)]
    record = {name: found.get(name) for name in COLUMNS}
    record["pseudo_dice"] = sum(known) / len(known) if known else None
    return {**record, **{f"pseudo_dice_{region}": value for region, value in by_region.items()}}


def _with_ema(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Fills the moving average by which nnU-Net chooses its best checkpoint, where the file does not tell it."""
    average: float | None = None
    for record in records:
        value = record["pseudo_dice"]
        if record["ema_pseudo_dice"] is None and value is not None:
            record["ema_pseudo_dice"] = value if average is None else EMA * average + (1 - EMA) * value
        average = record["ema_pseudo_dice"]
    return records
