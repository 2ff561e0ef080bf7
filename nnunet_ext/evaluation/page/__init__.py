"""The interactive report: one file that opens without a network, with all that it needs in it."""

import base64
import gzip
import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from nnunet_ext.whole import write_text

NAME = "interactive_3d_analysis.html"
MOST_BYTES = 3_000_000
PARTS = ("report.css", "report.js", "cases.js")


def write_page(path: Path, data: Mapping[str, Any]) -> int:
    """Write the page and return its size in bytes.

    plotly's scripts and the data are compressed and unpacked by the browser (DecompressionStream, in all since 2023).
    """
    text = page(data)
    write_text(path, text)
    return len(text.encode())


def page(data: Mapping[str, Any]) -> str:
    """The text of the page."""
    from plotly.offline import get_plotlyjs

    folder = files(__name__)
    text = folder.joinpath("report.html").read_text(encoding="utf-8")
    for name in PARTS:
        text = text.replace(f"/* {name} */", folder.joinpath(name).read_text(encoding="utf-8"))
    return text.replace("{plotly}", packed(get_plotlyjs())).replace("{data}", packed(json.dumps(data, allow_nan=False)))


def packed(text: str) -> str:
    """Compressed, in letters that a page may hold."""
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()
