"""How the values of an experiment's file are read: each reader takes what YAML gives and refuses what it cannot be."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from nnunet_ext.trainers.words import LARGEST_SEED

PLAIN = re.compile(r"[\w.-]+", re.ASCII)


@dataclass(frozen=True)
class Cascade:
    """The ROI cascade beside the sliding window.

    Attributes:
        detector: trainer of the detector; it is trained on the same folds where it is not yet.
        plans: of the detector; None for those of the experiment.
        configuration: of the detector.
        settings: flag of ``nnUNetv2_predict_cascade`` -> value, such as ``crop_size: [96, 96, 96]``.
    """

    detector: str = "nnUNetTrainer_ROIMobileUNETR3D_Tiny"
    plans: str | None = None
    configuration: str = "3d_roi"
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])


CASCADE_KEYS = ("detector", "plans", "configuration", "settings")
OUTCOMES_OPTIONS = {"ensemble": 1, "best": 1, "combine": 2, "nested": 0, "covariates": 1}
"""Options of ``nnunet_ext outcomes`` -> how many words each takes."""
CASCADE_SETTINGS = ("crop_size", "max_components", "min_component_ml", "roi_threshold", "margin_mm", "merge")


def text(value: Any) -> str | None:
    """A text; a number is one as well."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float) or not str(value).strip():
        raise ValueError(f"expected a text, not {value!r}.")
    return str(value)


def name(value: Any) -> str | None:
    """A name for a folder."""
    found = text(value)
    if found is not None and (not PLAIN.fullmatch(found) or not found.strip(".")):
        raise ValueError(f"expected a name of letters, digits, '.', '_' and '-', not {found!r}.")
    return found


def texts(value: Any) -> tuple[str, ...]:
    """A list of texts, or one text with blanks between them."""
    listed = value.split() if isinstance(value, str) else _listed(value)
    found = tuple(str(text(each)) for each in listed)
    if not found:
        raise ValueError("the list is empty.")
    return found


def words(value: Any) -> Mapping[str, tuple[str, ...]]:
    """Pattern -> words; a list is for all."""
    if value is None:
        return {}
    given = value if isinstance(value, Mapping) else {"*": value}
    return {str(pattern): texts(each) for pattern, each in given.items()}


def seeds(value: Any) -> tuple[int, ...]:
    """Different numbers from 0 to NumPy's largest seed."""
    found = tuple(_whole(each, 0, LARGEST_SEED) for each in _listed(value))
    _refuse_twice("seed", found)
    return found


def folds(value: Any) -> tuple[int | str, ...]:
    """Different folds, as nnU-Net numbers them."""
    listed = value.split() if isinstance(value, str) else _listed(value)
    found = tuple(each if each == "all" else _whole(each, 0, None) for each in listed)
    _refuse_twice("fold", found)
    return found


def _refuse_twice(what: str, found: tuple[Any, ...]) -> None:
    if not found:
        raise ValueError(f"the list is empty; name one {what} at least.")
    if twice := [each for i, each in enumerate(found) if each in found[:i]]:
        raise ValueError(f"{what} {twice[0]} is there twice; keep one.")


def one_of(*legal: str) -> Callable[[Any], str]:
    """A reader of one of a few texts."""

    def read(value: Any) -> str:
        if value not in legal:
            raise ValueError(f"expected {', '.join(legal[:-1])} or {legal[-1]}, not {value!r}.")
        return str(value)

    return read


def test(value: Any) -> str:
    """A folder of images, ``auto`` or ``none``; YAML's ``no`` and ``null`` are none."""
    return "none" if value is None or value is False else str(text(value))


def yes_or_no(value: Any) -> bool:
    """YAML's yes and no."""
    if not isinstance(value, bool):
        raise ValueError(f"expected yes or no, not {value!r}.")
    return value


def count(value: Any) -> int | None:
    """A whole number from 1 on."""
    return None if value is None else _whole(value, 1, None)


def number(value: Any) -> int:
    """A whole number from 0 on."""
    return _whole(value, 0, None)


def positive(value: Any) -> float | None:
    """A positive number."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not (math.isfinite(value) and value > 0):
        raise ValueError(f"expected a positive number, not {value!r}.")
    return float(value)


def mapping(value: Any) -> Mapping[str, Any]:
    """Names with values."""
    if not isinstance(value, Mapping):
        raise ValueError(f"expected names with values, not {value!r}.")
    return {str(key): each for key, each in value.items()}


def cascade(value: Any) -> Cascade | None:
    """A detector's name, yes for the usual one, or all keys."""
    if value is None or value is False:
        return None
    if value is True or isinstance(value, str):
        return Cascade() if value is True else Cascade(value)
    given = mapping(value)
    check_keys(given, CASCADE_KEYS, "It")
    given = {key: each for key, each in given.items() if each is not None}
    settings = mapping(given.pop("settings", {}))
    check_keys(settings, CASCADE_SETTINGS, "It")
    return Cascade(**{key: str(text(each)) for key, each in given.items()}, settings=settings)


def outcomes(value: Any) -> Mapping[str, tuple[str, ...]]:
    """Options of ``nnunet_ext outcomes`` -> their words; ``yes`` for one that takes none, ``no`` leaves it out."""
    given = {} if value is None else mapping(value)
    check_keys(given, OUTCOMES_OPTIONS, "It")
    return {key: _words_of(key, each) for key, each in given.items() if each is not None and each is not False}


def _words_of(option: str, value: Any) -> tuple[str, ...]:
    words = () if value is True else texts(value)
    wanted = OUTCOMES_OPTIONS[option]
    if len(words) != wanted:
        told = "yes" if value is True else repr(" ".join(words))
        raise ValueError(f"{option} takes {('no word, only yes', 'one word', 'two words')[wanted]}, not {told}.")
    return words


def check_keys(given: Mapping[Any, Any], known: Sequence[str] | Mapping[str, Any], source: str) -> None:
    """Refuses a key that is not known, with the nearest one that is, by a ValueError."""
    for name in given:
        if name not in known:
            near = get_close_matches(str(name), list(known), n=1, cutoff=0.5)
            hint = f"nearest: {near[0]}" if near else f"known are {', '.join(known)}"
            raise ValueError(f"{source} has the unknown key {name!r}; {hint}.")


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [] if value is None else [value]


def _whole(value: Any, least: int, most: int | None) -> int:
    whole = int(value) if isinstance(value, str) and value.isdecimal() else value
    if isinstance(whole, bool) or not isinstance(whole, int) or whole < least or (most is not None and whole > most):
        upper = "on" if most is None else f"to {most}"
        raise ValueError(f"expected a whole number from {least} {upper}, not {value!r}.")
    return whole
