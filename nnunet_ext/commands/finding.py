"""What a check of ``nnunet_ext doctor`` reports."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One result of one check.

    Attributes:
        level: ``ok``, nothing to do; ``warning``, works but may surprise; ``error``, must be mended.
        what: one sentence on what was found.
        remedy: one sentence on what to do about it; empty where there is nothing to do.

    """

    level: Literal["ok", "warning", "error"]
    what: str
    remedy: str = ""


def ok(what: str) -> Finding:
    """Report what is as it should be."""
    return Finding("ok", what)


def warning(what: str, remedy: str) -> Finding:
    """Report what works but may surprise."""
    return Finding("warning", what, remedy)


def error(what: str, remedy: str) -> Finding:
    """Report what must be mended."""
    return Finding("error", what, remedy)
