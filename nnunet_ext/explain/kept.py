"""What is done stays done: one JSON file a case, so that an interrupted run goes on with the same command."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunet_ext.evaluation.provenance import sha256
from nnunet_ext.evaluation.table import whole

FOLDER = "cases"
VERSION = 1
"""Of what is computed; another one makes nothing of what was kept."""


def origin(model: Path, folds: Sequence[int | str], checkpoint: str, **options: Any) -> dict[str, Any]:
    """What decides the results: the weights, by their checksums, and the options of the command."""
    weights = {str(fold): sha256(model / f"fold_{fold}" / checkpoint) for fold in folds}
    return {"version": VERSION, "model": model.name, "checkpoint": checkpoint, "weights_sha256": weights, **options}


class Kept:
    """The results of cases in ``folder/cases``.

    Args:
        folder: of the results.
        settings: plain data that decide them.
        overwrite: whether results of other settings are computed anew instead of being refused.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], *, overwrite: bool = False) -> None:
        self.folder, self.overwrite = folder / FOLDER, overwrite
        self.settings = json.loads(json.dumps(settings))

    def get(self, case: str, files: Sequence[Path]) -> Any:
        """The result of a case; None where there is none of these files as they are now.

        Raises:
            ValueError: there is one of another model or with other options.
        """
        path = self._path(case)
        if not path.is_file() or self.overwrite:
            return None
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["settings"] != self.settings:
            differing = sorted(k for k in {*found["settings"], *self.settings} if self._differs(found["settings"], k))
            raise ValueError(
                f"{path} is of a run with another {', '.join(differing)}; choose another -o, or give --overwrite."
            )
        return found["result"] if found["files"] == _signs(files) else None

    def put(self, case: str, files: Sequence[Path], result: Any) -> None:
        """Keeps the result of a case, whole or not at all."""
        content = {"settings": self.settings, "files": _signs(files), "result": result}
        whole(self._path(case), json.dumps(content, indent=1) + "\n")

    def _path(self, case: str) -> Path:
        return self.folder / f"{case}.json"

    def _differs(self, found: Mapping[str, Any], key: str) -> bool:
        return bool(found.get(key) != self.settings.get(key))


def _signs(files: Sequence[Path]) -> list[list[Any]]:
    """Name, size and time of change of each file."""
    return [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files]
