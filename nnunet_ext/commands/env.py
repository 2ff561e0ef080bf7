"""Print the variables that nnU-Net needs, one a line, for the shell to evaluate.

  eval "$(nnunet_ext env --root FOLDER)"                              bash, zsh
  nnunet_ext env --root FOLDER --shell powershell | Invoke-Expression

nnUNet_extTrainer keeps the folders that it has and gets ours as the last; nnUNet_raw, nnUNet_preprocessed and
nnUNet_results stay as they are set and are put below FOLDER otherwise. Hints go to stderr.
"""

import argparse
import os
import re
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from nnunet_ext.discovery import HOOK_VARIABLE, hook_folder, is_hook

RAW_VARIABLE, RESULTS_VARIABLE = "nnUNet_raw", "nnUNet_results"
FOLDER_VARIABLES = (RAW_VARIABLE, "nnUNet_preprocessed", RESULTS_VARIABLE)

# PowerShell takes the typographic single quotes for the plain one
_POWERSHELL_QUOTES = re.compile("(['\u2018\u2019\u201a\u201b])")


def _bash(name: str, value: str) -> str:
    return f"export {name}={shlex.quote(value)}"


def _powershell(name: str, value: str) -> str:
    quoted = _POWERSHELL_QUOTES.sub(r"\1\1", value)
    return f"$env:{name} = '{quoted}'"


SHELLS: dict[str, Callable[[str, str], str]] = {"bash": _bash, "powershell": _powershell}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--root", metavar="FOLDER", help="where nnU-Net's folders are to be, if they are not set yet")
    parser.add_argument("--shell", choices=SHELLS, default="bash", help="whose syntax to write (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Write the lines to stdout and the hints to stderr."""
    text = "".join(f"{line}\n" for line in lines(variables(os.environ, args.root), args.shell))
    # bytes, because a path need not be text and the shell wants it back as it is on disk
    sys.stdout.buffer.write(os.fsencode(text))
    sys.stdout.buffer.flush()
    for hint in hints(os.environ, args.root):
        print(hint, file=sys.stderr)
    return 0


def variables(environ: Mapping[str, str], root: str | None) -> dict[str, str]:
    """Return name and value of every variable that ``environ`` and the folder ``root`` determine."""
    if root == "":
        raise ValueError("--root is empty: give a folder, or leave the option out.")
    values = {HOOK_VARIABLE: joined(environ.get(HOOK_VARIABLE, ""), hook_folder())}
    for name in FOLDER_VARIABLES:
        if environ.get(name):
            values[name] = environ[name]
        elif root is not None:
            values[name] = _below(root, name)
    return values


def joined(existing: str, hook: Path) -> str:
    """Return the folders ``existing`` (separated by os.pathsep) with ``hook`` once, as the last.

    nnU-Net takes the first folder that has a name: another package's trainers come before what we would refuse.
    """
    if os.pathsep in str(hook):
        raise ValueError(
            f"This package is installed in {str(hook)!r}, and nnU-Net splits {HOOK_VARIABLE} at every {os.pathsep!r}: "
            f"install it in a folder without that character."
        )
    others = [folder for folder in existing.split(os.pathsep) if folder.strip() and not is_hook(folder)]
    return os.pathsep.join([*dict.fromkeys(others), str(hook)])


def lines(values: Mapping[str, str], shell: str) -> list[str]:
    """Write one line for each variable in the syntax of ``shell``; ValueError for a value that takes more than one."""
    for name, value in values.items():
        if "\n" in value or "\r" in value:
            raise ValueError(f"{name} would be {value!r}, which has a line break in it: give a folder without one.")
    return [SHELLS[shell](name, value) for name, value in values.items()]


def hints(environ: Mapping[str, str], root: str | None) -> list[str]:
    """Tell what the caller may not expect: a folder that is missing, one that is not below ``root``."""
    found = []
    for name in FOLDER_VARIABLES:
        value = environ.get(name)
        if not value and root is None:
            found.append(f"{name} is not set: give --root FOLDER to have it below that folder.")
        elif value and root is not None and value != _below(root, name):
            found.append(f"{name} stays {value!r}: unset it to have it below --root.")
    return found


def _below(root: str, name: str) -> str:
    # bash leaves the tilde of --root=~/folder alone
    return os.path.join(os.path.abspath(os.path.expanduser(root)), name)
