"""What an experiment is, read from a YAML file or from flags: one table of keys for both, and for the document."""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_ext.experiments import values
from nnunet_ext.experiments.values import Cascade

if TYPE_CHECKING:
    import yaml

EXTRA = 'The experiments need PyYAML; pip install "nnunet_ext[sweep]".'


def _key(reads: Callable[[Any], Any], told: str, default: Any = MISSING) -> Any:
    """A field that is a key of the file: how its value is read, and what it is, for document and help."""
    about = {"reads": reads, "told": told}
    return field(default_factory=dict, metadata=about) if default == {} else field(default=default, metadata=about)


@dataclass(frozen=True)
class Sweep:
    """An experiment. The keys of the file are the fields, and each says what it is."""

    dataset: str = _key(values.text, "number or name of the dataset")
    trainers: tuple[str, ...] = _key(
        values.texts, "names, with or without `nnUNetTrainer_`, words included; `DualBranch*` means all that match"
    )
    words: Mapping[str, tuple[str, ...]] = _key(
        values.words, "size and words for all trainers, or `{pattern: words}`; a later pattern's word replaces", {}
    )
    seeds: tuple[int, ...] = _key(values.seeds, "of our trainers; nnU-Net's own have none", (1,))
    folds: tuple[int | str, ...] = _key(values.folds, "numbers, or `all`", (0, 1, 2, 3, 4))
    configuration: str = _key(values.text, "of the plans", "3d_fullres")
    plans: str = _key(values.text, "their name", "nnUNetPlans")
    device: str = _key(values.one_of("cuda", "cpu", "mps"), "`cuda`, `cpu` or `mps`", "cuda")
    test: str = _key(
        values.test, "held-out images to predict: a folder, or `none`; `auto` is imagesTs where there are some", "auto"
    )
    test_labels: str | None = _key(
        values.text,
        "their segmentations (default: labelsTs beside imagesTs); of case-level targets a table (default: targets.csv)",
        None,
    )
    mirroring: bool = _key(values.yes_or_no, "whether held-out images are predicted with mirroring", True)
    probabilities: bool = _key(values.yes_or_no, "whether predictions keep probabilities, for ensembles", False)
    cascade: Cascade | None = _key(values.cascade, "beside the sliding window, see below", None)  # noqa: RUF009 - a key
    outcomes: Mapping[str, tuple[str, ...]] = _key(
        values.outcomes,
        "of case-level trainers: options of `nnunet_ext outcomes`, such as `{ensemble: grid, best: 5, nested: yes}`",
        {},
    )
    cost: bool = _key(values.yes_or_no, "parameters, MACs and memory in the comparison", True)
    report: bool = _key(values.yes_or_no, "the interactive page and overlays", True)
    reference: str | None = _key(values.text, "the method that the others are compared with (default: all pairs)", None)
    out: str = _key(values.text, "folder for the reports", "baseline_results")
    name: str | None = _key(values.name, "of the experiment's folder with its logs (default: the file's)", None)
    cores: int | None = _key(values.count, "of each run (default: 1 on a CPU, nnU-Net's 12 beside a GPU)", None)
    jobs: int | None = _key(values.count, "at most so many runs at once (default: what the machine holds)", None)
    gpu_memory: float | None = _key(values.positive, "GB of each GPU (default: this machine's)", None)
    share_gpu: bool = _key(values.yes_or_no, "whether runs share a GPU where the predicted memory allows", True)
    retries: int = _key(values.number, "of a run that fails", 2)
    stale_minutes: float = _key(values.positive, "without a sign of life after which a run is taken to hang", 60.0)
    address: str | None = _key(values.text, "of a running Ray cluster (default: this machine)", None)
    slurm_options: Mapping[str, Any] = _key(values.mapping, "options of submitit's Slurm executor, for `--slurm`", {})


KEYS = {each.name: each for each in fields(Sweep)}


def read(path: Path) -> dict[str, Any]:
    """The values of a file, not checked yet.

    Raises:
        ValueError: there is no such file, it is no YAML mapping, or has a key twice.
    """
    if not path.is_file():
        raise ValueError(f"There is no file {path}; docs/experiments.md shows one.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8 ({error}); save it as UTF-8.") from error
    found = parse_yaml(text, str(path))
    if not isinstance(found, dict):
        told = "nothing" if found is None else f"a {type(found).__name__}"
        raise ValueError(f"{path} should hold keys with values, such as `dataset: 501`, not {told}.")
    return found


def parse_yaml(text: str, source: str) -> Any:
    """A YAML value; a key that is there twice is refused, which PyYAML does not do.

    Raises:
        ValueError: it is no YAML; the sentence says where.
    """
    try:
        import yaml
    except ModuleNotFoundError as error:
        raise ValueError(EXTRA) from error
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        _refuse_twice(node, source)
        return None if node is None else loader.construct_document(node)
    except yaml.YAMLError as error:
        raise ValueError(f"{source} is no YAML: {' '.join(str(error).split())}.") from error
    finally:
        loader.dispose()


def _refuse_twice(node: "yaml.Node | None", source: str) -> None:
    import yaml

    if isinstance(node, yaml.MappingNode):
        names = [str(key.value) for key, _ in node.value]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{source} has the key {twice[0]!r} twice; keep one.")
        children = [value for _, value in node.value]
    else:
        children = node.value if isinstance(node, yaml.SequenceNode) else []
    for child in children:
        _refuse_twice(child, source)


def sweep_of(given: Mapping[str, Any], source: str = "The sweep") -> Sweep:
    """The experiment.

    Args:
        given: key -> value, as YAML reads them.
        source: where they come from, for messages.

    Raises:
        ValueError: an unknown key (with the nearest), a missing one, or a value of the wrong kind.
    """
    values.check_keys(given, KEYS, source)
    needed = [name for name in KEYS if _usual(name) is MISSING]
    if lacking := [name for name in needed if given.get(name) in (None, [], "")]:
        raise ValueError(f"{source} says no {' and no '.join(lacking)}; add `{lacking[0]}: ...`.")
    read_values = {}
    for name, value in given.items():
        try:
            read_values[name] = KEYS[name].metadata["reads"](value)
        except ValueError as error:
            raise ValueError(f"{source}, {name}: {error}") from error
    return Sweep(**{name: value for name, value in read_values.items() if value is not None})


def table() -> str:
    """Markdown: every key, what it is and what holds without it."""
    rows = ["| key | what it is | without it |", "|---|---|---|"]
    for name, each in KEYS.items():
        rows.append(f"| `{name}` | {each.metadata['told']} | {_default(_usual(name))} |")
    return "\n".join(rows)


def _usual(name: str) -> Any:
    """What holds without the key."""
    each = KEYS[name]
    return each.default if each.default_factory is MISSING else each.default_factory()


def _default(value: Any) -> str:
    if value is MISSING:
        return "refused"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return "" if value is None or value == {} else f"`{value}`"
