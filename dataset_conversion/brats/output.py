"""What is said on the terminal: it may be narrow, or gone, and that must not decide about a dataset."""

import os
import sys


def make_tolerant() -> None:
    """Let stdout and stderr write what their encoding lacks (a path of other bytes, cp1252) as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def say(text: str) -> None:
    """Print one line at once; where nobody reads any more (``| head``), this and all further lines go nowhere."""
    try:
        print(text, flush=True)
    except BrokenPipeError:  # the reader has seen enough, and the files are still wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
