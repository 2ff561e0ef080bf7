"""Which trainings the trainers, patterns and words of an experiment mean."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase

from nnunet_ext.experiments.file import Sweep
from nnunet_ext.networks.registry import PREFIX, case_specs, default_size, specs
from nnunet_ext.networks.spec import NetworkSpec
from nnunet_ext.networks.tasks import CASE_LEVEL
from nnunet_ext.trainers.grammar import TrainerName, parse
from nnunet_ext.trainers.naming import WILD, kind_of, legal_name, merged, networks_like, parts

STOCK = "nnUNetTrainer"


@dataclass(frozen=True)
class Method:
    """One row of the comparison.

    Attributes:
        trainer: full name without the seed.
        parsed: network, size and recipe of a trainer of ours, without a seed; None for others.
        words: size and words of the file that stand in the name.
        seeds: of its trainings; None for a training without.
    """

    trainer: str
    parsed: TrainerName | None
    words: tuple[str, ...]
    seeds: tuple[int | None, ...]

    @property
    def short(self) -> str:
        """The name without nnU-Net's prefix, as in tables of a comparison."""
        return self.trainer.removeprefix(PREFIX)

    @property
    def case_level(self) -> bool:
        """Whether it predicts case-level targets instead of a segmentation."""
        return self.parsed is not None and self.parsed.spec.task is CASE_LEVEL

    def named(self, seed: int | None) -> str:
        """The trainer's full name with a seed."""
        return self.trainer if seed is None else f"{self.trainer}_seed{seed}"


@dataclass(frozen=True)
class Methods:
    """All rows, and what wildcards matched and is left out, with the reason."""

    chosen: tuple[Method, ...]
    left_out: Mapping[str, str]

    @property
    def case_level(self) -> bool:
        """Whether the experiment is about case-level targets; all rows or none are."""
        return self.chosen[0].case_level


def methods_of(sweep: Sweep, known: Callable[[str], bool]) -> Methods:
    """The rows of the comparison, in the order of the file.

    Args:
        sweep: the experiment.
        known: whether nnU-Net finds a trainer that is none of ours; asked for others than its own usual one.

    Raises:
        ValueError: an unknown trainer (with the nearest), one that is there twice, words that make no training, words
            for no trainer, nothing that is left, or trainers of which some segment and some predict case-level targets.
    """
    found: dict[str, Method] = {}
    left_out: dict[str, str] = {}
    plain: set[str] = set()
    for given in sweep.trainers:
        for method in _meant(given, sweep, known, left_out):
            if method.trainer in plain and not _is_wild(given):
                raise ValueError(f"The trainer {method.trainer} is there twice (as {given}); keep one.")
            found.setdefault(method.trainer, method)
            plain |= {method.trainer}
    _refuse_idle_words(sweep, found.values())
    if not found:
        reasons = "; ".join(f"{name} {reason}" for name, reason in left_out.items())
        raise ValueError(f"Nothing is left to train: {reasons}.")
    _refuse_mixture(found.values())
    return Methods(tuple(found.values()), left_out)


def _is_wild(name: str) -> bool:
    return bool(WILD & set(name))


def _meant(given: str, sweep: Sweep, known: Callable[[str], bool], left_out: dict[str, str]) -> Iterator[Method]:
    pattern, own = parts(given)
    networks = networks_like(pattern)
    if not networks:
        yield _other(given, known)
    for spec in networks:
        reason = _unfit(spec, sweep) if _is_wild(pattern) else None
        if reason:
            left_out[PREFIX + spec.trainer] = reason
        else:
            yield _ours(spec, own, sweep)


def _unfit(spec: NetworkSpec, sweep: Sweep) -> str | None:
    """Why a wildcard does not mean this network."""
    if spec.detector and sweep.configuration != "3d_roi":
        return "is a detector, for 3d_roi"
    dimensions = 2 if sweep.configuration.startswith("2d") else 3
    if dimensions not in spec.dimensions:
        return f"is no {dimensions}D network"
    if spec.task is CASE_LEVEL and default_size(spec) is None:
        return "is the encoder of a detector, whose size is always written"
    return None


def _ours(spec: NetworkSpec, own: list[str], sweep: Sweep) -> Method:
    groups = [words for pattern, words in sweep.words.items() if _means(pattern, spec)]
    words = merged(spec, [*groups, own])
    if seeded := [word for word in words if kind_of(spec, word) == "seed"]:
        raise ValueError(f"{spec.trainer}: {seeded[0]!r} stands among the words; seeds have a key of their own, seeds.")
    if default_size(spec) is None and not any(word in spec.sizes for word in words):
        raise ValueError(f"{spec.trainer}: this network's size is always written; add {' or '.join(spec.sizes)}.")
    name = legal_name(spec, words)
    return Method(name, parse(name), tuple(name.removeprefix(PREFIX).split("_")[1:]), sweep.seeds)


def _means(pattern: str, spec: NetworkSpec) -> bool:
    return fnmatchcase(spec.trainer, pattern.removeprefix(PREFIX))


def _other(given: str, known: Callable[[str], bool]) -> Method:
    """nnU-Net's own trainer or another package's: no words, no seeds."""
    if _is_wild(given):
        raise ValueError(f"No trainer is like {given!r}; `nnunet_ext list` shows all.")
    if given == STOCK or (given.startswith(STOCK) and known(given)):
        return Method(given, None, (), (None,))
    names = {spec.trainer.lower(): spec.trainer for spec in (*specs(), *case_specs())} | {STOCK.lower(): STOCK}
    near = get_close_matches(parts(given)[0].lower(), names, n=1)
    hint = f"nearest: {names[near[0]]}" if near else "`nnunet_ext list` shows ours"
    raise ValueError(f"There is no trainer {given!r}; {hint}.")


def _refuse_mixture(found: Iterable[Method]) -> None:
    """One report cannot compare answers for voxels with answers for cases."""
    first: dict[bool, str] = {}
    for method in found:
        first.setdefault(method.case_level, method.short)
    if len(first) > 1:
        raise ValueError(
            f"{first[True]} predicts case-level targets and {first[False]} a segmentation; make a sweep of each kind."
        )


def _refuse_idle_words(sweep: Sweep, found: Iterable[Method]) -> None:
    """Words for a pattern that no trainer of the experiment matches are a mistake."""
    networks = {method.parsed.spec.trainer: method.parsed.spec for method in found if method.parsed}
    for pattern in sweep.words:
        if not any(_means(pattern, spec) for spec in networks.values()):
            names = ", ".join(networks) or "none of ours"
            raise ValueError(f"The words for {pattern!r} are for no trainer of the experiment ({names}).")
