"""Reading JSON files that others wrote."""

import json
from pathlib import Path
from typing import Any


def read_json(path: Path, remedy: str, kind: type = dict) -> Any:
    """What a file holds.

    Args:
        path: of the file.
        remedy: what to do about a damaged one, for the message.
        kind: what it must be.

    Raises:
        ValueError: it cannot be read, or holds something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({error}); {remedy}.") from error
    if not isinstance(found, kind):
        name = "a list" if kind is list else "an object"
        raise ValueError(f"{path} holds {type(found).__name__} where {name} is expected; {remedy}.")
    return found
