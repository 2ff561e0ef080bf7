"""Checks of the installed packages: which copies there are, which one Python takes, whether nnU-Net finds us."""

import io
import json
import os
import pkgutil
from collections.abc import Iterator
from contextlib import redirect_stdout
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlparse
from urllib.request import url2pathname

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from nnunet_ext.commands.finding import Finding, error, ok, warning
from nnunet_ext.discovery import HOOK_VARIABLE, SHIM, held_folders, hook_folder, is_hook

PACKAGES = ("nnunetv2", "nnunet_ext")
TRAINER = "nnUNetTrainer_DualBranchGhost"
INSTALL = "Run pip install . in the source folder of nnunet_ext, which brings what it needs."
SET_UP = 'Run eval "$(nnunet_ext env --root FOLDER)" in this shell.'


class Copy(NamedTuple):
    """A distribution that provides a package, and the folder in which it has it."""

    distribution: str
    version: str
    folder: Path

    def __str__(self) -> str:
        return f"{self.distribution} {self.version} in {self.folder}"


def check_packages() -> Iterator[Finding]:
    """Tell which nnunetv2 and nnunet_ext Python takes, and what else goes by these names."""
    for package in PACKAGES:
        taken = imported_folder(package)
        if taken is None:
            yield error(f"{package} is not installed.", INSTALL)
            continue
        found = copies(package)
        troubles = [*_foreign(package, found), *_hidden(package, taken, found), *_hiding(package, taken)]
        yield from troubles or [ok(str(next(copy for copy in found if copy.folder == taken)))]


def imported_folder(package: str) -> Path | None:
    """Return the folder from which Python imports ``package``, without importing it; None if it cannot."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]).resolve()


def copies(package: str) -> list[Copy]:
    """Return every distribution on ``sys.path`` that provides the top-level ``package``."""
    found: dict[tuple[str, Path], Copy] = {}
    for name in dict.fromkeys(metadata.packages_distributions().get(package, ())):
        for distribution in metadata.distributions(name=name):
            folder = _folder(distribution, package)
            # an editable install is seen twice from within its source folder, which has metadata of its own
            found.setdefault((canonicalize_name(name), folder), Copy(name, distribution.version, folder))
    return list(found.values())


def _folder(distribution: metadata.Distribution, package: str) -> Path:
    origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    if not origin.get("dir_info", {}).get("editable"):
        return Path(str(distribution.locate_file(package))).resolve()
    source = Path(url2pathname(urlparse(origin["url"]).path)).resolve()
    layouts = (source / package, source / "src" / package)
    return next((folder for folder in layouts if folder.is_dir()), layouts[0])


def _foreign(package: str, found: list[Copy]) -> Iterator[Finding]:
    for copy in found:
        if canonicalize_name(copy.distribution) != canonicalize_name(package):
            yield error(
                f"The distribution {copy} goes by the name of {package} as well.",
                f"Give each an environment of its own: pip uninstall {copy.distribution} {package}. {INSTALL}",
            )


def _hidden(package: str, taken: Path, found: list[Copy]) -> Iterator[Finding]:
    folders = {copy.folder for copy in found}
    if taken not in folders:
        others = "; it hides " + " and ".join(str(copy) for copy in found) if found else ""
        yield error(
            f"{package} is imported from {taken}, which pip did not install{others}.",
            f"Run from another folder, or take {taken.parent} off PYTHONPATH.",
        )
    elif len(folders) > 1:
        yield error(
            f"{package} is installed {len(folders)} times: " + "; ".join(str(copy) for copy in found) + ".",
            f"Run pip uninstall {package} until none is left. {INSTALL}",
        )


def _hiding(package: str, taken: Path) -> Iterator[Finding]:
    """Look in the current folder, which only ``python -m`` and ``python -c`` search before the installed packages."""
    here = Path.cwd() / package
    if (here / "__init__.py").is_file() and here.resolve() != taken:
        yield warning(
            f"The folder {here} hides the installed {package} from python -m and python -c.",
            "Run from another folder, or rename it.",
        )


def check_requirements() -> Iterator[Finding]:
    """Compare what is installed with what this package and nnunetv2 require (so torch with what nnunetv2 excludes)."""
    for package in PACKAGES:
        distribution = _distribution(package)
        required = [Requirement(text) for text in (distribution and distribution.requires) or []]
        for requirement in required:
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                yield from _unmet(package, requirement)


def _distribution(name: str) -> metadata.Distribution | None:
    return next(iter(metadata.distributions(name=name)), None)


def _unmet(package: str, requirement: Requirement) -> Iterator[Finding]:
    installed = _distribution(requirement.name)
    wanted = f"{requirement.name}{requirement.specifier}"
    if installed is None:
        yield error(f"{package} needs {wanted}, which is not installed.", f'Run pip install "{wanted}".')
    elif not requirement.specifier.contains(installed.version, prereleases=True):
        yield error(
            f"{package} needs {wanted}, and {requirement.name} {installed.version} is installed.",
            f'Run pip install "{wanted}".',
        )


def check_hook() -> Iterator[Finding]:
    """Tell whether nnUNet_extTrainer holds the folder of our shim, and what else it holds that does harm."""
    hook = hook_folder()
    folders = held_folders()
    others = [folder for folder in folders if os.path.realpath(folder) != os.path.realpath(hook)]
    modules = [module.name for module in pkgutil.iter_modules([str(hook)])]
    if modules != [Path(SHIM).stem]:
        yield error(
            f"The folder {hook} holds the modules {modules} where it must hold {SHIM} only.",
            f"Run pip uninstall nnunet_ext. {INSTALL}",
        )
    elif len(others) < len(folders):
        yield ok(f"{HOOK_VARIABLE} holds {hook}")
    else:
        yield error(f"{HOOK_VARIABLE} does not hold {hook}, so nnU-Net cannot find the trainers.", SET_UP)
    for folder in others:
        yield from _harmful(folder)


def _harmful(folder: str) -> Iterator[Finding]:
    package = hook_folder().parents[1].resolve()
    resolved = Path(folder).resolve()
    if is_hook(folder):
        yield warning(f"{HOOK_VARIABLE} holds {folder}, of another installation of this package.", SET_UP)
    elif not resolved.is_dir():
        yield warning(
            f"{HOOK_VARIABLE} holds {folder}, which does not exist and which nnU-Net passes over.", "Take it out."
        )
    elif resolved.is_relative_to(package) or package.is_relative_to(resolved):
        yield error(
            f"{HOOK_VARIABLE} holds {folder}, and nnU-Net imports every module in it a second time, under other names.",
            f'Unset {HOOK_VARIABLE}, then run eval "$(nnunet_ext env)" in this shell.',
        )


def check_trainer() -> Iterator[Finding]:
    """Ask nnU-Net itself for one of our trainers."""
    try:
        with redirect_stdout(io.StringIO()):  # nnU-Net tells where it searches
            from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

            trainer = recursive_find_trainer_class_by_name(TRAINER)
    except Exception as reason:  # it imports foreign modules, and whatever they raise is the finding
        yield error(
            f"nnU-Net does not find {TRAINER}: {type(reason).__name__}: {reason}",
            "Mend the errors above first; then look at the module that the message names.",
        )
        return
    if trainer.__module__.partition(".")[0] == "nnunet_ext":
        yield ok(f"nnU-Net finds {TRAINER}")
    else:
        yield error(
            f"nnU-Net takes {TRAINER} from the module {trainer.__module__}, which is not ours.",
            f"Rename that class, or put our folder before that module's in {HOOK_VARIABLE}.",
        )
