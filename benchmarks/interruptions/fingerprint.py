"""Whether two checkpoints are the same, byte by byte but for the clock."""

import hashlib
import struct
import zipfile
from pathlib import Path

from nnunet_ext.trainers.reading import read_safely

CLOCKS = ("epoch_start_timestamps", "epoch_end_timestamps")
DERIVED = "serialization_id"  # a hash of the other members, the clock included


def fingerprint(path: Path) -> dict[str, str]:
    """SHA-256 of every member of a checkpoint's archive; the pickle's with its time stamps set to zero.

    Members are the pickle (losses, rates, Dice, best EMA, names), and a file for each tensor of weights and optimiser.
    """
    log = read_safely(path)["logging"]
    stamps = [struct.pack(">d", value) for clock in CLOCKS for value in log[clock]]  # as the pickle has them
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist() if not name.endswith(DERIVED)}
    (pickled,) = (name for name in contents if name.endswith("data.pkl"))
    for stamp in stamps:
        assert stamp in contents[pickled]
        contents[pickled] = contents[pickled].replace(stamp, bytes(8))
    return {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}


def weights_of(path: Path) -> str:
    """One SHA-256 over the names and bytes of weights and optimiser, for a table."""
    content = read_safely(path)
    found = hashlib.sha256()
    for name, value in content["network_weights"].items():
        found.update(name.encode() + value.numpy().tobytes())
    for state in content["optimizer_state"]["state"].values():
        for name, value in state.items():
            found.update(name.encode() + (value.numpy().tobytes() if hasattr(value, "numpy") else repr(value).encode()))
    return found.hexdigest()
