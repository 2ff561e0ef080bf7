"""The grammar of trainer names: ``nnUNetTrainer_<Network>[_<Size>][_<word>...]``.

A name is legal in exactly one order, because nnU-Net makes it the name of the results folder: two spellings of one
recipe would be two experiments. Each word sets one field of the recipe.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import Any

from nnunet_ext.networks.registry import PREFIX, default_size, specs
from nnunet_ext.networks.spec import NetworkSpec

NUMBER = r"[1-9]\d*"
RATE = r"\d+(?:\.\d+)?(?:en\d+)?"  # 3en4 = 3e-4, as nnU-Net writes learning rates


@dataclass(frozen=True)
class Word:
    """One kind of word.

    Attributes:
        kind: what it sets, for messages.
        pattern: what it looks like; the first group is its value.
        example: how it is shown to the user.
        changes: value -> fields of the recipe; None for a kind that this version reads but cannot apply.
    """

    kind: str
    pattern: str
    example: str
    changes: Callable[[str], dict[str, Any]] | None = None

    @cached_property
    def regex(self) -> re.Pattern[str]:
        """The compiled pattern, for whole words."""
        return re.compile(f"(?:{self.pattern})")


AUGMENTATION = {"NoMirror": "no mirroring", "NoAug": "none"}

SIZE = -1  # the size stands before all words

# in the one legal order
WORDS: tuple[Word, ...] = (
    Word("coordinates", "(CoordConv)", "CoordConv", lambda _: {"coordinates": True}),
    Word("optimiser", f"(?:SGD|Adam|AdamW)(?:{RATE})?", "AdamW3en4"),
    Word("weight decay", f"WD({RATE})", "WD1en5"),
    Word("schedule", "Poly|Cosine|Plateau|Step|Exponential", "Cosine"),
    Word("warm-up", f"Warmup({NUMBER})", "Warmup10"),
    Word("loss", "DiceCE|Dice70CE30|Dice50CE50|Focal|DiceFocal|Tversky", "Dice70CE30"),
    Word("gradient clipping", f"Clip({RATE})", "Clip1"),
    Word("gradient accumulation", f"Acc({NUMBER})", "Acc4"),
    Word("deep supervision", "NoDS", "NoDS"),
    Word("precision", "FP32|BF16|AMP", "BF16"),
    Word("augmentation", "(NoMirror|NoAug)", "NoAug", lambda word: {"augmentation": AUGMENTATION[word]}),
    Word("compilation", "NoCompile", "NoCompile"),
    Word("frozen encoder", f"Freeze({NUMBER})", "Freeze10"),
    Word("validation interval", f"ValEvery({NUMBER})", "ValEvery5"),
    Word("save interval", f"SaveEvery({NUMBER})", "SaveEvery10"),
    Word("early stopping", f"Stop({NUMBER})", "Stop50"),
    Word("epochs", f"({NUMBER})epochs", "250epochs", lambda n: {"epochs": int(n)}),
    Word("iterations per epoch", f"iter({NUMBER})", "iter100", lambda n: {"iterations": int(n)}),
    Word("seed", rf"seed(0|{NUMBER})", "seed42", lambda n: {"seed": int(n)}),
)


@dataclass(frozen=True)
class TrainerName:
    """A parsed name: the network, its size and the fields of the recipe that the words change."""

    spec: NetworkSpec
    size: str
    changes: dict[str, Any]


def parse(name: str) -> TrainerName | None:
    """Reads a trainer's name; None if it is not the name of one of our networks.

    Raises:
        ValueError: our network with a wrong size or word, a word twice, or words in another order.
    """
    if not name.startswith(PREFIX):
        return None
    network, *words = name.removeprefix(PREFIX).split("_")
    spec = next((s for s in specs() if s.trainer == network), None)
    if spec is None:
        return None
    indices = [_index_of(spec, word, name) for word in words]
    _check_order(PREFIX + network, words, indices, name)
    size = words.pop(0) if SIZE in indices else default_size(spec)
    if size is None:
        legal = " or ".join(f"{PREFIX}{spec.trainer}_{s}" for s in spec.sizes)
        raise ValueError(f"{name}: this network's size is always written: {legal}.")
    changes: dict[str, Any] = {}
    for word in words:
        changes |= _changes(WORDS[_index_of(spec, word, name)], word, name)
        _check_difference(spec, word, changes, name)
    return TrainerName(spec, size, changes)


def _index_of(spec: NetworkSpec, word: str, name: str) -> int:
    """Place of a word in the legal order; the size comes before all others."""
    if word in spec.sizes:
        return SIZE
    index = next((i for i, kind in enumerate(WORDS) if kind.regex.fullmatch(word)), None)
    if index is None:
        near = get_close_matches(word, [*spec.sizes, *(w.example for w in WORDS if w.changes)], n=1, cutoff=0.4)
        hint = f" (nearest: {near[0]})" if near else ""
        words = ", ".join(f"{w.example} ({w.kind})" for w in WORDS if w.changes)
        raise ValueError(
            f"{name}: unknown word {word!r}{hint}. Legal after the network's name, in this order: a size "
            f"({', '.join(spec.sizes)}), {words}."
        )
    return index


def _check_order(stem: str, words: Sequence[str], indices: Sequence[int], name: str) -> None:
    for i, index in enumerate(indices):
        if index in indices[:i]:
            first, kind = words[indices.index(index)], "size" if index == SIZE else WORDS[index].kind
            raise ValueError(f"{name}: {first!r} and {words[i]!r} both set the {kind}; keep one.")
    ordered = [word for _, word in sorted(zip(indices, words, strict=True))]
    if ordered != list(words):
        raise ValueError(f"{name}: the words stand in another order; the legal name is {'_'.join([stem, *ordered])}.")


def _check_difference(spec: NetworkSpec, word: str, changes: dict[str, Any], name: str) -> None:
    """Refuses a word that the network's own recipe holds: it would be a second name for the same training."""
    if any(field in spec.recipe and spec.recipe[field] == value for field, value in changes.items()):
        legal = "_".join(part for part in name.split("_") if part != word)
        raise ValueError(f"{name}: {word!r} is what {spec.trainer} does anyway; the legal name is {legal}.")


def _changes(kind: Word, word: str, name: str) -> dict[str, Any]:
    if kind.changes is None:
        legal = ", ".join(w.example for w in WORDS if w.changes)
        raise ValueError(f"{name}: this version cannot apply {word!r} ({kind.kind}); it can apply {legal}.")
    match = kind.regex.fullmatch(word)
    assert match is not None
    return kind.changes(match.group(1))
