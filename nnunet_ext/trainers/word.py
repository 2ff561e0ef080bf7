"""What a word of a trainer's name is: its form, what it sets, and what documents say of it."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from nnunet_ext.networks.tasks import TASKS, Task

NUMBER = "[1-9][0-9]{0,5}"
# one spelling for one number: 3en4 = 3e-4, as nnU-Net writes learning rates; 12 or 1.5 from 1 on
RATE = r"[1-9](?:\.[0-9]*[1-9])?en[1-9][0-9]?|[1-9][0-9]*(?:\.[0-9]*[1-9])?"

Fields = dict[str, Any]
NOTHING, PREDICTED, UNKNOWN = "no", "predicted", "not predicted"


@dataclass(frozen=True)
class Word:
    """One kind of word.

    Attributes:
        kind: what it sets, for messages.
        pattern: what it looks like; its first group is its value.
        example: how it is shown to the user.
        sets: value -> fields of the recipe.
        shape: how the word is written, for documents.
        effect: what it does to a training, for documents.
        default: what happens without it.
        memory: field -> whether it changes the memory of a training step, and whether that is predicted.
        shorter: value -> the word's one legal spelling, where it has a shorter one.
        tasks: of the networks for which it means something.
    """

    kind: str
    pattern: str
    example: str
    sets: Callable[[str], Fields]
    shape: str
    effect: str
    default: str
    memory: Mapping[str, str | Mapping[Any, str]]
    shorter: Callable[[str], str | None] = lambda _: None
    tasks: tuple[Task, ...] = TASKS

    @cached_property
    def regex(self) -> re.Pattern[str]:
        """The compiled pattern, for whole words of ASCII."""
        return re.compile(f"(?:{self.pattern})", re.ASCII)

    def value(self, word: str) -> str:
        """The value in a word of this kind."""
        match = self.regex.fullmatch(word)
        assert match is not None, f"{word} is no {self.kind}"
        return match.group(1)


def number(text: str) -> float:
    """The number in a word: ``3en4`` is 3e-4."""
    return float(text.replace("en", "e-"))
