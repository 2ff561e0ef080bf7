"""By which recipe each row of a comparison is trained, why, and in what the rows differ.

Two networks that are trained by different recipes differ by network and recipe together (nnU-Net's users ask how to
compare fairly in MIC-DKFZ/nnUNet#2894). Nothing is changed here: what differs is told, with where it comes from.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nnunet_ext.experiments.estimate import recipe_of
from nnunet_ext.experiments.methods import Method
from nnunet_ext.networks.tasks import SEGMENTATION, Task
from nnunet_ext.trainers.grammar import index_of
from nnunet_ext.trainers.recipe import Recipe
from nnunet_ext.trainers.words import WORDS

SHOWN = {
    "optimiser": "optimiser",
    "initial_lr": "rate",
    "weight_decay": "decay",
    "schedule": "schedule",
    "floor": "end of schedule",
    "warmup_epochs": "warm-up",
    "loss": "loss",
    "epochs": "epochs",
    "iterations": "iterations",
    "accumulation": "accumulation",
    "clip": "clip",
    "deep_supervision": "deep supervision",
    "augmentation": "augmentation",
    "precision": "precision",
    "coordinates": "coordinates",
    "batch": "batch",
    "frozen_epochs": "frozen epochs",
    "unfrozen_stages": "stages trained afterwards",
    "encoder_rate": "encoder's part of the rate",
    "patience": "patience",
    "smoothing": "label smoothing",
    "balanced": "balanced levels",
    "heteroscedastic": "spread of numbers",
    "joint": "weight of the segmentation",
    "covariates": "covariates",
    "fused": "fused inputs",
    "multi_level": "several levels",
    "targets": "columns",
}
"""Fields of a recipe that decide what is learnt -> how they are named; see :func:`shown` for which networks."""
ALWAYS = 8  # the first ones are shown even where no row differs
STOCK, FAMILY, PART, WORD = "nnU-Net's", "published for this kind of network", "part of the network", "word"


@dataclass(frozen=True)
class Value:
    """A value of a recipe and where it comes from."""

    value: Any
    source: str


@dataclass(frozen=True)
class Row:
    """A method with its recipe.

    Attributes:
        method: its short name.
        values: field -> value of the fields that mean something for it; empty for a trainer that is neither ours nor
            nnU-Net's default, which cannot be asked.
        cited: where the family's values were published, as (text, link).
        one_seed: whether it is trained once only, having no seed.
    """

    method: str
    values: Mapping[str, Value]
    cited: tuple[tuple[str, str], ...]
    one_seed: bool


def shown(task: Task) -> tuple[str, ...]:
    """The fields of ``SHOWN`` that mean something for networks of a task: those that its words may set."""
    meant = {field for word in WORDS if task in word.tasks for field in word.memory}
    return tuple(field for field in SHOWN if field in meant)


def row_of(method: Method) -> Row:
    """The recipe of a method."""
    recipe = recipe_of(method)
    if recipe is None:
        return Row(method.short, {}, (), True)
    sources = _sources(method)
    task = method.parsed.spec.task if method.parsed else SEGMENTATION
    values = {field: Value(getattr(recipe, field), sources.get(field, STOCK)) for field in shown(task)}
    families = FAMILY in {value.source for value in values.values()}
    cited = method.parsed.spec.recipe_source if method.parsed and families else ()
    return Row(method.short, values, cited, method.seeds == (None,))


def _sources(method: Method) -> dict[str, str]:
    """Field -> where it comes from, of those that are not nnU-Net's."""
    if method.parsed is None:
        return {}
    spec = method.parsed.spec
    declared = [field for field in spec.recipe if field in SHOWN and _changes(spec.recipe, field)]
    found = {field: PART if field == "coordinates" else FAMILY for field in declared}
    for word in method.words:
        if word not in spec.sizes:
            kind = WORDS[index_of(spec, word, method.trainer)]
            found |= dict.fromkeys(kind.sets(kind.value(word)), f"{WORD} {word}")
    return found


def _changes(declared: Mapping[str, Any], field: str) -> bool:
    return bool(declared[field] != getattr(Recipe(), field))


def differences(rows: Sequence[Row]) -> dict[str, dict[Any, list[str]]]:
    """Field -> value -> methods, of the fields in which rows differ."""
    found: dict[str, dict[Any, list[str]]] = {}
    for field in SHOWN:
        by_value: dict[Any, list[str]] = {}
        for row in rows:
            if field in row.values:
                by_value.setdefault(row.values[field].value, []).append(row.method)
        if len(by_value) > 1:
            found[field] = by_value
    return found


def note(methods: Iterable[Method], configuration: Mapping[str, Any], n_seeds: int) -> str:
    """The note, in Markdown.

    Args:
        methods: the rows.
        configuration: of the plans, whose patch and batch all rows have.
        n_seeds: of the experiment.
    """
    rows = [row_of(method) for method in methods]
    differ = differences(rows)
    patch = "x".join(map(str, configuration["patch_size"]))
    planned = configuration["batch_size"]
    batches = {row.values["batch"].value or planned for row in rows if row.values} or {planned}
    batch = f", batch ({batches.pop()})" if len(batches) == 1 else ""
    lines = [
        "# Is the comparison fair?",
        "",
        f"All rows have the same data, splits, patch ({patch}){batch} and augmentation code. "
        " What each is trained by, and where that comes from:",
        "",
        *_table(rows, differ),
        "",
        *_citations(rows),
        *_told(rows, differ),
        *_cautions(rows, n_seeds),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _table(rows: Sequence[Row], differ: Mapping[str, Any]) -> list[str]:
    known: Sequence[str] = next((tuple(row.values) for row in rows if row.values), tuple(SHOWN))
    fields = [field for i, field in enumerate(known) if i < ALWAYS or field in differ]
    lines = ["| method | " + " | ".join(SHOWN[field] for field in fields) + " | not nnU-Net's |"]
    lines.append("|---" * (len(fields) + 2) + "|")
    for row in rows:
        if not row.values:
            lines.append(f"| {row.method} | " + " | ".join("?" for _ in fields) + " | not known: its own code |")
            continue
        cells = [_text(row.values[field].value) for field in fields]
        lines.append(f"| {row.method} | " + " | ".join(cells) + f" | {_why(row)} |")
    return lines


def _why(row: Row) -> str:
    by_source: dict[str, list[str]] = {}
    for field, value in row.values.items():
        if value.source != STOCK:
            by_source.setdefault(value.source, []).append(SHOWN[field])
    return "; ".join(f"{', '.join(fields)}: {source}" for source, fields in by_source.items()) or "nothing"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else "none" if value is None else str(value)


def _citations(rows: Sequence[Row]) -> list[str]:
    by_source: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for row in rows:
        if row.cited:
            by_source.setdefault(row.cited, []).append(row.method)
    lines = [
        f"* Published for {', '.join(methods)}: " + ", ".join(f"[{text}]({link})" for text, link in cited) + "."
        for cited, methods in by_source.items()
    ]
    return [*lines, ""] if lines else []


def _told(rows: Sequence[Row], differ: Mapping[str, Mapping[Any, Sequence[str]]]) -> list[str]:
    """The differences, and how to be rid of them."""
    unknown = [row.method for row in rows if not row.values]
    if unknown:
        return [
            f"**What {', '.join(unknown)} trains by is not known here**, it stands in its own code; look there before "
            "you take a difference of results for one of networks.",
            "",
            *(_of_known(differ) if differ else []),
        ]
    return _of_known(differ)


def _of_known(differ: Mapping[str, Mapping[Any, Sequence[str]]]) -> list[str]:
    if not differ:
        return ["No row differs from another in its recipe: what differs in the results is the networks', and chance."]
    lines = [
        "**Rows differ in their recipes**, and the results cannot tell that from a difference of the networks:",
        "",
    ]
    for field, by_value in differ.items():
        told = "; ".join(f"{_text(value)} for {', '.join(methods)}" for value, methods in by_value.items())
        lines.append(f"* {SHOWN[field]}: {told}")
    return [
        *lines,
        "",
        "Each published recipe is what its authors found to suit their kind of network; one recipe for all (for "
        "example `words: [SGD, Poly, Warmup10]`) is the same for all and may suit none. Whoever can afford it trains "
        "both ways and reports both.",
    ]


def _cautions(rows: Sequence[Row], n_seeds: int) -> list[str]:
    single = [row.method for row in rows if row.one_seed]
    if not single or n_seeds < 2:
        return []
    return [
        "",
        f"{', '.join(single)} has no seed and is trained once a fold; a comparison takes as many seeds of each method "
        "as the one with the fewest has, so one of yours. UNet3DStride is nnU-Net's network with seeds.",
    ]
