"""The arrows between the packages and the house rules, read from the source."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FREE = None

# what each part may import of our own parts and of nnU-Net; a new part must be entered here
ARROWS: dict[str, set[str] | None] = {
    "networks": set(),
    "coordinates": {"nnunetv2"},
    "trainers": {"networks", "coordinates", "nnunetv2"},
    "discovery": {"trainers"},
    "images": set(),
    "cascade": {"coordinates", "trainers", "networks", "images", "nnunetv2"},  # trainers by name
    "profiling": {"networks"},
    "planning": {"profiling", "networks", "nnunetv2"},
    "evaluation": set(),
    # trainers, networks: declarations, names and words, which load no torch
    "experiments": {"networks", "trainers", "evaluation", "planning", "images", "discovery"},
    "explain": {"coordinates", "trainers", "networks", "evaluation", "nnunetv2"},
    "ensembling": {"evaluation", "nnunetv2"},
    "outcomes": {"networks", "trainers", "evaluation", "nnunetv2"},
    "commands": FREE,
}
# what each part may import of others' libraries, where that is limited
LIBRARIES = {
    "networks": {"torch", "dynamic_network_architectures", "numpy", "einops"},
    "evaluation": {
        "numpy",
        "scipy",
        "SimpleITK",
        "pandas",
        "cc3d",
        "isal",
        "statsmodels",
        "matplotlib",
        "scikit_posthocs",
        "skimage",
        "fast_simplification",
        "plotly",
    },
}
MAY_PRINT = ("nnunet_ext/cli.py", "nnunet_ext/commands/", "dataset_conversion/", "benchmarks/", "tests/mutants.py")
MOST_LINES = 400
PERSONAL_PATH = re.compile(rb"(?<![\w.:/~-])(/(?:home|Users|root|work|opt|tmp|mnt|media|scratch)/\w|[A-Z]:\\Users\\)")


def tracked(*patterns: str) -> list[Path]:
    done = subprocess.run(["git", "ls-files", "-z", *patterns], cwd=ROOT, check=True, capture_output=True, text=True)
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(tree: ast.AST, package: list[str]) -> Iterator[str]:
    """Dotted names of what is imported anywhere in a module of ``package``, objects of a ``from`` included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            yield from (".".join([*base, *filter(None, [node.module]), alias.name]) for alias in node.names)


def forbidden(part: str, tree: ast.AST, package: list[str]) -> list[str]:
    """What a module of ``part`` imports against the arrows."""
    found = []
    for dotted in imports(tree, package):
        top, _, rest = dotted.partition(".")
        inner = rest.partition(".")[0]
        arrow = inner if top == "nnunet_ext" else top
        if arrow in {*ARROWS, "nnunetv2"}:
            allowed = ARROWS[part]
            wrong = allowed is not FREE and arrow not in {part, *allowed}
        else:
            library = top not in sys.stdlib_module_names and top != "nnunet_ext"
            wrong = library and part in LIBRARIES and top not in LIBRARIES[part]
        found += [dotted] if wrong else []
    return found


@pytest.mark.parametrize("part", ARROWS)
def test_arrows(part):
    wrong = {}
    for path in tracked(f"nnunet_ext/{part}/*.py"):
        package = list(path.relative_to(ROOT).parts[:-1])
        wrong[name_of(path)] = forbidden(part, ast.parse(path.read_bytes()), package)
    assert not {name: found for name, found in wrong.items() if found}


def test_every_part_has_its_arrows():
    parts = {path.relative_to(ROOT).parts[1] for path in tracked("nnunet_ext/*/*")}
    assert parts <= set(ARROWS)


def test_the_converters_import_nothing_of_ours():
    for path in tracked("dataset_conversion/*.py"):
        assert "nnunet_ext" not in {d.partition(".")[0] for d in imports(ast.parse(path.read_bytes()), [])}, path


@pytest.mark.parametrize(
    ("part", "line", "wrong"),
    [
        ("networks", "from nnunet_ext.trainers.base import ExtTrainer", True),
        ("networks", "from nnunet_ext import trainers", True),
        ("networks", "from ..trainers import base", True),
        ("networks", "from .. import trainers", True),
        ("networks", "from . import zoo", False),
        ("networks", "import timm.models", True),
        ("networks", "import torch.nn", False),
        ("networks", "import functools", False),
        ("networks", "def f():\n    import nnunetv2", True),
        ("trainers", "import nnunetv2, nnunet_ext.networks.zoo", False),
        ("trainers", "from nnunet_ext import __version__", False),
        ("trainers", "import nnunet_ext.cascade", True),
        ("evaluation", "import torch", True),
        ("commands", "import nnunetv2, nnunet_ext.cascade, torch", False),
    ],
)
def test_the_reader_of_arrows_sees(part, line, wrong):
    assert bool(forbidden(part, ast.parse(line), ["nnunet_ext", part])) == wrong


# --- house rules: each is a predicate on a node of the syntax tree


def is_star_import(node: ast.AST) -> bool:
    return isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names)


def is_print(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"


def is_bare_except(node: ast.AST) -> bool:
    return isinstance(node, ast.ExceptHandler) and node.type is None


def has_mutable_default(node: ast.AST) -> bool:
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        return False
    displays = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
    defaults = [default for default in (*node.args.defaults, *node.args.kw_defaults) if default]
    return any(isinstance(d, displays) or ast.unparse(d) in ("list()", "dict()", "set()") for d in defaults)


RULES = {is_star_import: (), is_print: MAY_PRINT, is_bare_except: (), has_mutable_default: ()}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_house_rules(rule):
    paths = [path for path in tracked("*.py") if not name_of(path).startswith(RULES[rule])]
    nodes = [(path, node) for path in paths for node in ast.walk(ast.parse(path.read_bytes())) if rule(node)]
    assert [f"{name_of(path)}:{node.lineno}" for path, node in nodes] == []


@pytest.mark.parametrize(
    ("rule", "bad"),
    [
        (is_star_import, "from os import *"),
        (is_print, "print(1)"),
        (is_bare_except, "try: f()\nexcept: pass"),
        (has_mutable_default, "def f(a, b=[]): pass"),
        (has_mutable_default, "lambda *, b=dict(): b"),
    ],
)
def test_the_reader_of_house_rules_sees(rule, bad):
    assert any(rule(node) for node in ast.walk(ast.parse(bad)))
    assert not any(rule(node) for node in ast.walk(ast.parse("try: f(a, b=())\nexcept ValueError: log.print(1)")))


def test_no_source_file_is_long():
    lengths = {name_of(path): len(path.read_bytes().splitlines()) for path in tracked("*.py")}
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES} == {}


def test_no_path_of_a_person_or_a_machine():
    found = {name_of(path): PERSONAL_PATH.findall(path.read_bytes()) for path in tracked()}
    assert {name: paths for name, paths in found.items() if paths} == {}


@pytest.mark.parametrize("folder", ["home", "Users", "tmp", "work"])
def test_the_reader_of_paths_sees(folder):
    assert PERSONAL_PATH.search(f'DATA = "/{folder}/me/data"'.encode())
    assert not PERSONAL_PATH.search(f"see https://example.org/{folder}/me or {folder}/me or ../{folder}/me".encode())
