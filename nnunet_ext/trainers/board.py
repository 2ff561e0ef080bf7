"""TensorBoard from the lines of progress.jsonl, where it is installed (``pip install nnunet_ext[tensorboard]``)."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

FOLDER = "tensorboard"
NOT_SHOWN = ("epoch", "host", "versions", "commit")


class Board:
    """Event files of a fold, one scalar for each number of a line; without TensorBoard it does nothing.

    Args:
        folder: of the fold.
        first: epoch with which the training begins or goes on; what earlier runs wrote from it on is replaced.
    """

    def __init__(self, folder: Path, first: int) -> None:
        self.writer: Any = None
        if find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(folder / FOLDER), purge_step=first)

    def add(self, record: dict[str, Any]) -> None:
        """Shows a line."""
        if self.writer is None:
            return
        for name, value in scalars(record):
            self.writer.add_scalar(name, value, record["epoch"])
        self.writer.flush()

    def close(self) -> None:
        """Ends the files."""
        if self.writer is not None:
            self.writer.close()


def scalars(record: dict[str, Any], above: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of a line by name; of a nested one ``loss/overlap``."""
    for name, value in record.items():
        if not above and name in NOT_SHOWN:
            continue
        if isinstance(value, dict):
            yield from scalars(value, f"{above}{name}/")
        elif isinstance(value, int | float):
            yield above + name, float(value)
