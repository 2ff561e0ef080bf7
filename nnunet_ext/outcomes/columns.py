"""What the columns of ``targets.csv`` mean: the schema ``targets.json``, read and checked.

A file of this format::

    {
      "format": 1,
      "columns": {
        "grade": {"kind": "class", "levels": ["LGG", "HGG"]},
        "survival_class": {"kind": "ordinal", "levels": ["short", "medium", "long"]},
        "score": {"kind": "regression", "unit": "years", "bands": [0.5, 1.0, 2.0]},
        "days": {"kind": "survival", "unit": "days", "censoring": "censored", "cuts": [300, 450]}
      },
      "covariates": {
        "age": {"coding": "z", "missing": "mean"},
        "sex": {"coding": "binary", "levels": ["F", "M"]},
        "resection": {"coding": "one-hot", "levels": ["GTR", "STR", "NA"]}
      },
      "groups": ["patient"],
      "stratify": "grade",
      "inputs": {"frontal": [0, 1, 2], "lateral": [3, 4, 5]}
    }

JSON Schema (the package ``jsonschema``) says where a file is wrong, not what to do; the sentences are why this is ours.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from math import isfinite
from pathlib import Path
from typing import Any

SCHEMA_FILE, TABLE_FILE = "targets.json", "targets.csv"
FORMAT = 1
CASE, SET = "case", "set"
"""Columns of every table: the case's name, and (where there is one) whether it is of the ``train`` or ``test`` set."""
CLASS, ORDINAL, REGRESSION, SURVIVAL = "class", "ordinal", "regression", "survival"

KINDS: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    # kind: keys that it needs, keys that it may have
    CLASS: (frozenset({"levels"}), frozenset()),
    ORDINAL: (frozenset({"levels"}), frozenset()),
    REGRESSION: (frozenset({"unit"}), frozenset({"bands", "cuts"})),
    SURVIVAL: (frozenset({"censoring"}), frozenset({"unit", "bands", "cuts"})),
}
CODINGS: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "z": (frozenset(), frozenset({"missing"})),
    "number": (frozenset(), frozenset({"missing"})),
    "binary": (frozenset({"levels"}), frozenset({"missing"})),
    "one-hot": (frozenset({"levels"}), frozenset({"missing"})),
}
MISSING = ("refuse", "mean", "indicator")
KEYS = frozenset({"format", "columns", "covariates", "groups", "stratify", "inputs"})


@dataclass(frozen=True)
class Column:
    """One target.

    Attributes:
        name: of the column.
        kind: ``class``, ``ordinal``, ``regression`` or ``survival``.
        levels: of a class or an ordinal, in the order of their numbers 0, 1, ...; of two, the second is the positive.
        unit: of a number.
        bands: half widths, in the unit, within which a prediction counts as right ("accuracy within").
        cuts: ascending limits that make classes of a number; see :meth:`cut`.
        censoring: of a survival, the column that holds 1 where the time is only known to be longer, else 0.
        spread: of a regression, whether its head tells the spread of each case's error as well; a recipe says so, and
            no declaration.
    """

    name: str
    kind: str
    levels: tuple[str, ...] = ()
    unit: str = ""
    bands: tuple[float, ...] = ()
    cuts: tuple[float, ...] = ()
    censoring: str = ""
    spread: bool = False

    @property
    def is_discrete(self) -> bool:
        """Whether its values are levels and no numbers."""
        return bool(self.levels)

    def cut(self, value: float) -> int:
        """The class of a number, 0 to ``len(cuts)``.

        The middle is closed on both sides, as BraTS has it: with 300 and 450 these are < 300, 300 to 450, > 450 (Bakas
        2018, arXiv:1811.02629).
        """
        first, *others = self.cuts
        return int(value >= first) + sum(value > limit for limit in others)


@dataclass(frozen=True)
class Covariate:
    """One thing that is known of a case beside its images.

    Attributes:
        name: of the column.
        coding: ``z`` (a number less the mean of the training cases, by their standard deviation), ``number`` (as it
            is), ``binary`` (two levels: 0 and 1) or ``one-hot`` (a feature for each level).
        levels: of the last two.
        missing: what an empty cell counts: ``refuse`` (nothing, which is said), ``mean`` (the mean of the training
            cases' features), ``indicator`` (the same, and a further feature says 1).
    """

    name: str
    coding: str
    levels: tuple[str, ...] = ()
    missing: str = "refuse"

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features that it becomes."""
        own = tuple(f"{self.name}={level}" for level in self.levels) if self.coding == "one-hot" else (self.name,)
        return (*own, f"{self.name}?") if self.missing == "indicator" else own


@dataclass(frozen=True)
class Schema:
    """What a dataset's targets are.

    Attributes:
        columns: the targets by name, in the file's order.
        covariates: by name.
        groups: columns that tell who is one patient: cases that share a value of one of them are never parted.
        stratify: the target of which each fold gets its share.
        inputs: name of an input -> its channels (indices of dataset.json); empty where all channels are one input.
    """

    columns: dict[str, Column]
    covariates: dict[str, Covariate] = field(default_factory=dict)
    groups: tuple[str, ...] = ()
    stratify: str = ""
    inputs: dict[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def declared(self) -> tuple[str, ...]:
        """All columns of the table that the schema names, each once."""
        censoring = [column.censoring for column in self.columns.values() if column.censoring]
        return tuple(dict.fromkeys([*self.columns, *censoring, *self.covariates, *self.groups]))

    def column(self, name: str) -> Column:
        """The target of this name; ValueError names those that there are."""
        if name not in self.columns:
            raise ValueError(f"{SCHEMA_FILE} declares no target {name!r}; it has {', '.join(self.columns)}.")
        return self.columns[name]

    def as_dict(self) -> dict[str, Any]:
        """The schema as its file holds it; :func:`schema_from` reads it back."""
        filled: dict[str, Any] = {
            "format": FORMAT,
            "columns": {name: _filled(column) for name, column in self.columns.items()},
            "covariates": {name: _filled(covariate) for name, covariate in self.covariates.items()},
            "groups": list(self.groups),
            "stratify": self.stratify,
            "inputs": {name: list(channels) for name, channels in self.inputs.items()},
        }
        return {key: value for key, value in filled.items() if value}


def _filled(entry: Column | Covariate) -> dict[str, Any]:
    """What of a declaration is not empty, as JSON has it."""
    values = {key: list(value) if isinstance(value, tuple) else value for key, value in vars(entry).items()}
    return {key: value for key, value in values.items() if value and key not in ("name", "spread")}


def load_schema(path: Path) -> Schema:
    """Read a schema.

    Raises:
        ValueError: the file is not there, no JSON, or declares what is not possible; one sentence with the remedy.
    """
    if not path.is_file():
        raise ValueError(f"There is no {path}; write one as docs/outcomes.md describes it.")
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_without_repetition)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no JSON ({error}); mend it.") from error
    return schema_from(content, str(path))


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; of two equal keys Python would keep the second without a word."""
    names = [name for name, _ in pairs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"A file of JSON has the key {twice!r} twice in one place; leave one.")
    return dict(pairs)


def schema_from(content: Any, where: str = SCHEMA_FILE) -> Schema:
    """The schema that a dictionary of the file's form declares.

    Args:
        content: as :meth:`Schema.as_dict` gives it.
        where: what to call it in messages.

    Raises:
        ValueError: as :func:`load_schema`.
    """
    found = _object(content, where)
    _refuse_others(found, KEYS, where)
    if found.get("format", FORMAT) != FORMAT:
        raise ValueError(f"{where} has the format {found['format']!r}, this version reads {FORMAT}; convert it.")
    columns = {name: _column(name, entry, where) for name, entry in _entries(found, "columns", where)}
    if not columns:
        raise ValueError(f'{where} declares no target; give at least one in "columns".')
    covariates = {name: _covariate(name, entry, where) for name, entry in _entries(found, "covariates", where)}
    groups = _words(found.get("groups", []), f'{where}, "groups"')
    inputs = {name: _channels(name, entry, where) for name, entry in _entries(found, "inputs", where)}
    stratify = _text(found.get("stratify", next(iter(columns))), f'{where}, "stratify"')
    _refuse_shared(inputs, where)
    schema = Schema(columns, covariates, groups, stratify, inputs)
    schema.column(schema.stratify)
    _check_names(schema, where)
    return schema


def _object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where} holds {json.dumps(value, default=repr)[:60]}, not an object {{...}}; write one.")
    return value


def _entries(found: dict[str, Any], key: str, where: str) -> Iterator[tuple[str, Any]]:
    yield from _object(found.get(key, {}), f'{where}, "{key}"').items()


def _refuse_others(found: Mapping[str, Any], allowed: frozenset[str], where: str) -> None:
    others = sorted(set(found) - allowed)
    if others:
        raise ValueError(f"{where} has the key {others[0]!r}, which means nothing; known are {_listed(allowed)}.")


def _listed(words: frozenset[str]) -> str:
    return ", ".join(sorted(words))


def _declaration(
    found: dict[str, Any], key: str, table: Mapping[str, tuple[frozenset[str], frozenset[str]]], where: str
) -> None:
    """Refuse a declaration whose kind (or coding) is unknown, or that lacks what it needs or has what means nothing."""
    if not isinstance(found.get(key), str) or found[key] not in table:
        raise ValueError(f"{where} has the {key} {found.get(key)!r}; known are {', '.join(table)}.")
    needed, possible = table[found[key]]
    missing = needed - set(found)
    if missing:
        raise ValueError(f'{where} is of the {key} {found[key]} and lacks "{min(missing)}"; add it.')
    _refuse_others(found, needed | possible | {key}, where)


def _column(name: str, entry: Any, where: str) -> Column:
    where = f"{where}, column {name!r},"
    found = _object(entry, where)
    _declaration(found, "kind", KINDS, where)
    kind = found["kind"]
    unit = found.get("unit", "days" if kind == SURVIVAL else "")
    numbers = {key: _ascending(found[key], f'{where} "{key}"') for key in ("bands", "cuts") if key in found}
    if any(width <= 0 for width in numbers.get("bands", ())):
        raise ValueError(f'{where} "bands" holds a width that is not positive; give widths above 0.')
    levels = _levels(found, where) if "levels" in found else ()
    texts = (_text(unit, f'{where} "unit"'), _text(found.get("censoring", ""), f'{where} "censoring"'))
    return Column(name, kind, levels, texts[0], numbers.get("bands", ()), numbers.get("cuts", ()), texts[1])


def _covariate(name: str, entry: Any, where: str) -> Covariate:
    where = f"{where}, covariate {name!r},"
    found = _object(entry, where)
    _declaration(found, "coding", CODINGS, where)
    levels = _levels(found, where) if "levels" in found else ()
    if found["coding"] == "binary" and len(levels) != 2:
        raise ValueError(f"{where} is binary and has {len(levels)} levels; give two, or the coding one-hot.")
    missing = found.get("missing", MISSING[0])
    if missing not in MISSING:
        raise ValueError(f'{where} "missing" is {missing!r}; give one of {", ".join(MISSING)}.')
    return Covariate(name, found["coding"], levels, missing)


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{where} is {value!r}; give a text.")
    return value


def _list(value: Any, where: str, is_right: Callable[[Any], bool], what: str) -> list[Any]:
    if not isinstance(value, list) or not all(map(is_right, value)):
        raise ValueError(f"{where} is {json.dumps(value, default=repr)[:60]}; give a list of {what}.")
    return value


def _words(value: Any, where: str) -> tuple[str, ...]:
    """A list of different words; whole numbers are taken as they are written."""
    given = _list(value, where, lambda word: isinstance(word, str | int) and not isinstance(word, bool), "words")
    words = tuple(str(word).strip() for word in given)
    if len(set(words)) < len(words) or not all(words):
        raise ValueError(f"{where} has an empty or a repeated entry in {', '.join(map(repr, words))}; give each once.")
    return words


def _levels(found: Mapping[str, Any], where: str) -> tuple[str, ...]:
    levels = _words(found["levels"], f'{where} "levels"')
    if len(levels) < 2:
        raise ValueError(f"{where} has {len(levels)} level; give at least two, for one cannot be told from another.")
    return levels


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _ascending(value: Any, where: str) -> tuple[float, ...]:
    numbers = tuple(float(number) for number in _list(value, where, _is_number, "numbers"))
    if not numbers or any(first >= second for first, second in pairwise(numbers)):
        raise ValueError(f"{where} is {list(numbers)}; give ascending numbers.")
    return numbers


def _channels(name: str, entry: Any, where: str) -> tuple[int, ...]:
    where = f"{where}, input {name!r},"
    channels = _list(entry, where, lambda c: isinstance(c, int) and not isinstance(c, bool) and c >= 0, "channels")
    if not channels or len(set(channels)) < len(channels):
        raise ValueError(f"{where} has the channels {channels}; give each of its channels once, counted from 0.")
    return tuple(channels)


def _refuse_shared(inputs: Mapping[str, tuple[int, ...]], where: str) -> None:
    owner: dict[int, str] = {}
    for name, channels in inputs.items():
        for channel in channels:
            if owner.setdefault(channel, name) != name:
                raise ValueError(
                    f"{where} gives the channel {channel} to the inputs {owner[channel]!r} and {name!r}; leave it in "
                    "one."
                )


def _check_names(schema: Schema, where: str) -> None:
    """Refuse names that clash: a target that is a covariate would be told to the network."""
    for name in schema.declared:
        if name in (CASE, SET) or not name or name != name.strip():
            raise ValueError(f"{where} declares the column {name!r}; call it otherwise.")
    targets = [*schema.columns, *(column.censoring for column in schema.columns.values() if column.censoring)]
    both = sorted(set(targets) & {*schema.covariates, *schema.groups})
    if both:
        raise ValueError(
            f"{where} has {both[0]!r} as a target and as a covariate or group; a target is told to nobody, leave one."
        )
    censored = next((c for c in schema.columns.values() if c.censoring in schema.columns), None)
    if censored:
        raise ValueError(f"{where}, column {censored.name!r}: its censoring is a target; give a column of its own.")
