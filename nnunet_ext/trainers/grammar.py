"""The grammar of trainer names: ``nnUNetTrainer_<Network>[_<Size>][_<word>...]``.

A name is legal in exactly one order and spelling, because nnU-Net makes it the name of the results folder: two names of
one recipe would be two experiments. :mod:`.words` has the words.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from nnunet_ext.networks.registry import PREFIX, case_specs, default_size, segmenting, specs
from nnunet_ext.networks.spec import NetworkSpec
from nnunet_ext.trainers.recipe import Recipe
from nnunet_ext.trainers.words import LARGEST_SEED, WORDS

SIZE = -1  # the size stands before all words
LONGEST_FOLDER = 255  # bytes that file systems allow in one name
USUAL_FOLDER = "__nnUNetPlans__3d_fullres"  # what nnU-Net adds to the trainer's name


@dataclass(frozen=True)
class TrainerName:
    """A parsed name: the network, its size and the recipe."""

    spec: NetworkSpec
    size: str
    recipe: Recipe


def parse(name: str) -> TrainerName | None:
    """Reads a trainer's name; None if it is not the name of one of our networks.

    Raises:
        ValueError: our network with a wrong size or word, a word twice, words in another order, a second name for the
            same recipe, or a name too long for a folder.
    """
    if not name.startswith(PREFIX):
        return None
    network, *words = name.removeprefix(PREFIX).split("_")
    spec = next((s for s in (*specs(), *case_specs()) if s.trainer == network), None)
    if spec is None:
        return None
    indices = [index_of(spec, word, name) for word in words]
    check_order(PREFIX + network, words, indices, name)
    size = words.pop(0) if SIZE in indices else default_size(spec)
    if size is None:
        legal = " or ".join(f"{PREFIX}{spec.trainer}_{s}" for s in spec.sizes)
        raise ValueError(f"{name}: this network's size is always written: {legal}.")
    _check_task(spec, words, name)
    _check_spelling(spec, words, name)
    check_length(name + USUAL_FOLDER)
    return TrainerName(spec, size, _recipe(spec, words, name))


def check_length(folder: str) -> None:
    """Refuses the name of a results folder that no file system would take, with a ValueError."""
    if (length := len(folder.encode())) > LONGEST_FOLDER:
        raise ValueError(
            f"{folder}: the results folder's name has {length} bytes, and file systems allow {LONGEST_FOLDER}; leave "
            "out a word."
        )


def with_epochs(name: str, epochs: int) -> str:
    """The legal name of the same training with another number of epochs.

    Raises:
        ValueError: the name is not legal.
    """
    parsed = parse(name)
    assert parsed is not None, f"{name} is no trainer of ours"
    network, *words = name.removeprefix(PREFIX).split("_")
    place = next(i for i, word in enumerate(WORDS) if word.kind == "epochs")
    by_place = {index_of(parsed.spec, word, name): word for word in words}
    by_place.pop(place, None)
    if epochs != Recipe.epochs:
        by_place[place] = f"{epochs}epochs"
    return "_".join([PREFIX + network, *(word for _, word in sorted(by_place.items()))])


def index_of(spec: NetworkSpec, word: str, name: str) -> int:
    """Place of a word in the legal order; the size comes before all others."""
    if word in spec.sizes:
        return SIZE
    index = next((i for i, kind in enumerate(WORDS) if kind.regex.fullmatch(word)), None)
    if index is None:
        near = get_close_matches(word, [*spec.sizes, *(w.example for w in WORDS)], n=1, cutoff=0.4)
        hint = f" (nearest: {near[0]})" if near else ""
        words = ", ".join(f"{w.example} ({w.kind})" for w in WORDS)
        raise ValueError(
            f"{name}: unknown word {word!r}{hint}. Legal after the network's name, in this order: a size "
            f"({', '.join(spec.sizes)}), {words}."
        )
    return index


def check_order(stem: str, words: Sequence[str], indices: Sequence[int], name: str) -> None:
    """Refuses two words of one kind, and words in another than the legal order, with a ValueError."""
    for i, index in enumerate(indices):
        if index in indices[:i]:
            first, kind = words[indices.index(index)], "size" if index == SIZE else WORDS[index].kind
            raise ValueError(f"{name}: {first!r} and {words[i]!r} both set the {kind}; keep one.")
    ordered = [word for _, word in sorted(zip(indices, words, strict=True))]
    if ordered != list(words):
        raise ValueError(f"{name}: the words stand in another order; the legal name is {'_'.join([stem, *ordered])}.")


def _check_task(spec: NetworkSpec, words: Sequence[str], name: str) -> None:
    for word in words:
        kind = WORDS[index_of(spec, word, name)]
        if spec.task not in kind.tasks:
            tasks = " and ".join(task.name for task in kind.tasks)
            raise ValueError(
                f"{name}: {word!r} sets the {kind.kind}, which is for networks of {tasks} alone; leave it out."
            )


def _check_spelling(spec: NetworkSpec, words: Sequence[str], name: str) -> None:
    for word in words:
        kind = WORDS[index_of(spec, word, name)]
        shorter = kind.shorter(kind.value(word))
        if shorter is not None:
            raise ValueError(
                f"{name}: {word!r} is what {shorter!r} means; the legal name is {_with(name, word, shorter)}."
            )


def _recipe(spec: NetworkSpec, words: Sequence[str], name: str) -> Recipe:
    """The recipe, unless a name with fewer words has it too: that would be a second name for the same training."""
    recipe = applied(spec, words, name)
    if words and recipe == applied(spec, [], name):
        legal = "_".join(part for part in name.split("_") if part not in words)
        raise ValueError(f"{name}: {', '.join(words)} is what {spec.trainer} does anyway; the legal name is {legal}.")
    for word in words:
        if applied(spec, [other for other in words if other != word], name) == recipe:
            raise ValueError(
                f"{name}: {word!r} is what {spec.trainer} does anyway; the legal name is {_with(name, word)}."
            )
    recipe.check()
    if recipe.joint and segmenting(spec) is None:
        raise ValueError(
            f"{name}: {spec.trainer} has no decoder, and Joint trains one; choose a network that segments "
            f"(`nnunet_ext list`)."
        )
    return recipe


def applied(spec: NetworkSpec, words: Sequence[str], name: str) -> Recipe:
    """The recipe of a family with these words, whether their name is the legal one or not."""
    changes: dict[str, Any] = {}
    for word in words:
        kind = WORDS[index_of(spec, word, name)]
        changes |= kind.sets(kind.value(word))
    if changes.get("seed", 0) > LARGEST_SEED:
        raise ValueError(f"{name}: the largest seed is {LARGEST_SEED}, not {changes['seed']}.")
    return Recipe.of(spec, **changes)


def _with(name: str, word: str, other: str | None = None) -> str:
    """The name with another word in place of one, or with none."""
    parts = [other if part == word else part for part in name.split("_")]
    return "_".join(part for part in parts if part is not None)
