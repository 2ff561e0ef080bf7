"""Trainer names from patterns and words: which networks a wildcard means, and the one legal name of a training."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from nnunet_ext.networks.case_zoo import TRAINER as CASE
from nnunet_ext.networks.registry import PREFIX, case_specs, default_size, specs
from nnunet_ext.networks.spec import NetworkSpec
from nnunet_ext.trainers.grammar import SIZE, applied, index_of, parse
from nnunet_ext.trainers.words import WORDS

WILD = frozenset("*?[")


def parts(name: str) -> tuple[str, list[str]]:
    """Network and words of a name, with or without nnU-Net's prefix; neither is checked."""
    network, *words = name.removeprefix(PREFIX).split("_")
    return network, words


def networks_like(pattern: str) -> tuple[NetworkSpec, ...]:
    """The declared networks whose trainer's name a pattern (``DualBranch*``) or a name means, in the zoo's order.

    Those for case-level targets are meant by what begins with ``Case`` alone, so that ``*`` means one kind of network.
    """
    known = case_specs() if pattern.startswith(CASE) else specs()
    return tuple(spec for spec in known if fnmatchcase(spec.trainer, pattern))


def merged(spec: NetworkSpec, groups: Iterable[Sequence[str]]) -> list[str]:
    """Words in the legal order; a later group's word replaces an earlier one's of the same kind.

    Raises:
        ValueError: an unknown word, or two of one kind in one group.
    """
    chosen: dict[int, str] = {}
    for group in groups:
        places = [index_of(spec, word, spec.trainer) for word in group]
        for i, place in enumerate(places):
            if place in places[:i]:
                first = group[places.index(place)]
                raise ValueError(f"{first!r} and {group[i]!r} both set the {kind_at(place)} of {spec.trainer}.")
        chosen |= dict(zip(places, group, strict=True))
    return [word for _, word in sorted(chosen.items())]


def kind_at(place: int) -> str:
    """What the words at this place of the legal order set."""
    return "size" if place == SIZE else WORDS[place].kind


def kind_of(spec: NetworkSpec, word: str) -> str:
    """What a word sets: ``size``, ``optimiser``, ``epochs`` ..."""
    return kind_at(index_of(spec, word, spec.trainer))


def legal_name(spec: NetworkSpec, words: Sequence[str]) -> str:
    """The one legal name of a training: words in their order and shortest spelling, without those that change nothing.

    Args:
        spec: the network.
        words: size and words, no two of one kind.

    Raises:
        ValueError: words that make no legal training.
    """
    ordered = merged(spec, [words])
    size = [word for word in ordered if word in spec.sizes and word != default_size(spec)]
    chosen = [_spelled(spec, word) for word in ordered if word not in spec.sizes]
    name = "_".join([PREFIX + spec.trainer, *size, *_needed(spec, chosen)])
    parse(name)
    return name


def _spelled(spec: NetworkSpec, word: str) -> str:
    kind = WORDS[index_of(spec, word, spec.trainer)]
    return kind.shorter(kind.value(word)) or word


def _needed(spec: NetworkSpec, words: Sequence[str]) -> list[str]:
    """The words without those whose absence changes nothing."""
    recipe = applied(spec, words, spec.trainer)
    if recipe == applied(spec, [], spec.trainer):
        return []
    for word in words:
        fewer = [other for other in words if other != word]
        if applied(spec, fewer, spec.trainer) == recipe:
            return _needed(spec, fewer)
    return list(words)
