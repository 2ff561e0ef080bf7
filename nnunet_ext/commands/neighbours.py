"""Check of other packages on nnUNet_extTrainer: what they are, and who wins where two have a trainer of one name.

Their modules are parsed and not imported: an import may take seconds, and may fail for want of what they need.
"""

import ast
import os
import pkgutil
from collections.abc import Iterator
from pathlib import Path

from nnunet_ext.commands.finding import Finding, ok, warning
from nnunet_ext.commands.installation import copies
from nnunet_ext.discovery import HOOK_VARIABLE, held_folders, hook_folder, is_hook

SHOWN = 3


def check_neighbours() -> Iterator[Finding]:
    """Tell which other trainers nnUNet_extTrainer brings, and which of them have names of ours."""
    folders = held_folders()
    ours = os.path.realpath(hook_folder())
    places = [os.path.realpath(folder) for folder in folders]
    for place, folder in zip(places, folders, strict=True):
        if os.path.isdir(place) and not is_hook(folder):
            first = ours not in places or places.index(place) < places.index(ours)
            yield from _neighbour(Path(folder), first)


def _neighbour(folder: Path, first: bool) -> Iterator[Finding]:
    names = trainers(folder)
    title = f"{HOOK_VARIABLE} also holds {folder}{_package(folder)} with {len(names)} trainers"
    shared = sorted(name for name in names if _is_ours(name))
    if not shared:
        yield ok(f"{title}; none has a name of ours.")
        return
    shown = ", ".join(shared[:SHOWN]) + (", ..." if len(shared) > SHOWN else "")
    winner, loser = (str(folder), "ours") if first else ("our folder", "theirs")
    yield warning(
        f"{title}; {len(shared)} have names of ours ({shown}), and nnU-Net takes those of {winner}, which comes first.",
        f"To train with {loser}, exchange the two folders in {HOOK_VARIABLE} in the shell that trains.",
    )


def trainers(folder: Path) -> set[str]:
    """Names of the classes that nnU-Net would find in ``folder`` and look like trainers: defined there, or imported."""
    return {name for module in _modules(folder) for name in _names(module) if "Trainer" in name}


def _modules(folder: Path) -> Iterator[Path]:
    for module in pkgutil.iter_modules([str(folder)]):
        if module.ispkg:
            yield from _modules(folder / module.name)
        elif (folder / f"{module.name}.py").is_file():  # and no compiled module
            yield folder / f"{module.name}.py"


def _names(module: Path) -> Iterator[str]:
    try:
        tree = ast.parse(module.read_bytes())
    except SyntaxError:  # nnU-Net cannot import it: check_trainer tells that
        return
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("nnunetv2"):
            yield from (alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def _is_ours(name: str) -> bool:
    """Whether our folder has a trainer of this name; one that we refuse is theirs alone."""
    from nnunet_ext.trainers.grammar import parse

    try:
        return parse(name) is not None
    except ValueError:
        return False


def _package(folder: Path) -> str:
    """Distribution and version that a folder comes from, in brackets; nothing where pip did not install it."""
    top = folder.resolve()
    while (top.parent / "__init__.py").is_file():
        top = top.parent
    found = [copy for copy in copies(top.name) if copy.folder == top]
    return f" ({found[0].distribution} {found[0].version})" if found else ""
