"""One thing that is wrong with a source: what, what to do, and where."""

from typing import NamedTuple


class Problem(NamedTuple):
    """Something wrong with a case: what, what to do, and where."""

    text: str
    remedy: str
    case: str = ""
    file: str = ""

    def __str__(self) -> str:
        return f"{self.case}: {self.file + ' ' if self.file else ''}{self.text}; {self.remedy}"
