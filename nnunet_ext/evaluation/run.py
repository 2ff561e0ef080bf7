"""Evaluating many cases: in several processes, with what is done kept so that an interrupted run goes on."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from nnunet_ext.evaluation import cases
from nnunet_ext.evaluation.cases import Pair, Settings
from nnunet_ext.evaluation.processes import each
from nnunet_ext.whole import write_text

DONE_FILE = "cases.jsonl"
VERSION = 2
"""Of what is measured; another one makes nothing of what was kept."""


def evaluate_all(pairs: Sequence[Pair], settings: Settings, folder: Path, jobs: int = 1) -> Iterator[dict[str, Any]]:
    """The records of all pairs, those that are there from an earlier run first, in any order.

    Args:
        pairs: the cases.
        settings: what decides the values.
        folder: where ``cases.jsonl`` keeps what is done; a case whose files have changed since is done again.
        jobs: processes; 1 for none but this one.

    Raises:
        ValueError: the folder holds records of other settings, or a process was ended from outside.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / DONE_FILE
    header = {"version": VERSION, "settings": _as_json(settings)}
    kept = _kept(path, header)
    signs = {pair.case: _sign(pair) for pair in pairs}
    done = {case: line for case, line in kept.items() if signs.get(case) == line["files"]}
    write_text(path, "".join(json.dumps(line) + "\n" for line in (header, *done.values())))
    yield from (line["record"] for line in done.values())
    left = [pair for pair in pairs if pair.case not in done]
    with path.open("a", encoding="utf-8") as lines:
        for record in each(partial(cases.evaluate, settings=settings), left, jobs):
            lines.write(json.dumps({"files": signs[record["case"]], "record": record}) + "\n")
            lines.flush()
            yield record


def forget(folder: Path) -> None:
    """Removes what was kept of an earlier run."""
    (folder / DONE_FILE).unlink(missing_ok=True)


def _kept(path: Path, header: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Case -> line of the cases that are done."""
    if not path.is_file():
        return {}
    first, *lines = path.read_text(encoding="utf-8").splitlines() or [""]
    if _entry(first) != json.loads(json.dumps(header)):
        raise ValueError(
            f"{path.parent} holds an evaluation with another convention, edition or option; choose another -o, or"
            " --overwrite."
        )
    found = {}
    for entry in map(_entry, lines):
        if entry is not None:
            found[entry["record"]["case"]] = entry
    return found


def _entry(line: str) -> dict[str, Any] | None:
    """A line of the file; None for one that is cut short or damaged, whose case is done again."""
    try:
        entry: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    return entry


def _sign(pair: Pair) -> list[list[int] | None]:
    """Size and time of change of the files; None for one that is not there."""
    found: list[list[int] | None] = []
    for path in (pair.reference, pair.prediction, pair.roi):
        status = os.stat(path) if path else None
        found.append([status.st_size, status.st_mtime_ns] if status else None)
    return found


def _as_json(settings: Settings) -> dict[str, Any]:
    return {
        **asdict(settings),
        "reference": cases.as_plain(settings.reference),
        "prediction": cases.as_plain(settings.prediction),
    }
