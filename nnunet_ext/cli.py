"""The command ``nnunet_ext``: one row of a table for each sub-command.

A command is a module with ``add_arguments(parser)`` and ``run(args) -> int``; its docstring is its help. The module is
imported only when its command runs, so that ``nnunet_ext --help`` and the light commands do not wait for torch.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NamedTuple, NoReturn

from nnunet_ext import __version__

EXIT_CODES = """exit codes:
  0  done
  1  the command ran and found something wrong
  2  bad input, explained in one sentence on stderr
141  nobody reads the output any more (as in: nnunet_ext list | head)
"""
READER_IS_GONE = 141
"""What a shell says of a program that such a signal (SIGPIPE, 13) ended."""


class Command(NamedTuple):
    """One row of the table: how the command is called, where it is written, what it does."""

    name: str
    module: str
    help: str


COMMANDS = (
    Command("env", "nnunet_ext.commands.env", "print the variables that nnU-Net needs, for the shell to evaluate"),
    Command("doctor", "nnunet_ext.commands.doctor", "find what is wrong with an installation and how to mend it"),
    Command("list", "nnunet_ext.commands.list_networks", "list networks, sizes, trainers, parameters and GMACs"),
    Command("recipes", "nnunet_ext.commands.recipes", "list the words of trainer names and what they do to a training"),
    Command(
        "extend", "nnunet_ext.commands.extend", "go on with a finished training to more epochs, under another name"
    ),
    Command(
        "targets", "nnunet_ext.commands.targets", "check case-level targets, make folds by patient, or a 2D dataset"
    ),
    Command("plan", "nnunet_ext.commands.plan", "plan the largest patch and batch of a network for a GPU's memory"),
    Command("plan-roi", "nnunet_ext.commands.plan_roi", "add the cascade's configurations to plans and preprocess"),
    Command(
        "evaluate",
        "nnunet_ext.commands.evaluate",
        "Dice, HD95, NSD and lesions by the conventions of BraTS and nnU-Net",
    ),
    Command("sweep", "nnunet_ext.commands.sweep", "train, predict and compare many networks: trainers, seeds, folds"),
    Command("compare", "nnunet_ext.commands.compare", "compare trainings: tables, statistics, and what may be claimed"),
    Command("outcomes", "nnunet_ext.commands.outcomes", "judge case-level trainings against baselines, with intervals"),
    Command("ensemble", "nnunet_ext.commands.ensemble", "average models with weights found on validation cases only"),
    Command(
        "contributions",
        "nnunet_ext.commands.contributions",
        "how much each modality carries of a segmentation: exact Shapley values",
    ),
    Command("gradcam", "nnunet_ext.commands.gradcam", "where a network looks for a class: 3D Grad-CAM of whole cases"),
    Command(
        "export-slicer", "nnunet_ext.commands.export_slicer", "write segmentations named and coloured for 3D Slicer"
    ),
    Command(
        "predict-cases",
        "nnunet_ext.commands.predict_cases",
        "predict a grade, class, number or time for each case of a folder",
    ),
    Command("import-weights", "nnunet_ext.commands.import_weights", "take over weights of MONAI's UNETR or SwinUNETR"),
    Command("export", "nnunet_ext.commands.export", "write a trained model into one file without code, with checksums"),
    Command("import", "nnunet_ext.commands.import_", "take over a model that export wrote"),
)


class _Parser(argparse.ArgumentParser):
    """Answers bad input with one sentence where argparse prints its usage as well."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _parser(prog: str, description: str | None) -> argparse.ArgumentParser:
    return _Parser(
        prog=prog,
        description=description,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def _chosen(arguments: Sequence[str]) -> Command:
    """Find the command that the first argument names."""
    width = max(len(command.name) for command in COMMANDS)
    table = "\n".join(f"  {command.name:<{width}}  {command.help}" for command in COMMANDS)
    parser = _parser("nnunet_ext", f"Extension of nnU-Net v2 for brain tumours.\n\ncommands:\n{table}")
    parser.add_argument("command", choices=[command.name for command in COMMANDS], help="one of the commands above")
    parser.add_argument("--version", action="version", version=f"nnunet_ext {__version__}")
    name = parser.parse_args(arguments[:1]).command
    return next(command for command in COMMANDS if command.name == name)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that ``argv`` (default: the process's arguments) names and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # what an encoding lacks is written as escapes: a path need not be text
            stream.reconfigure(errors="backslashreplace")
    arguments = sys.argv[1:] if argv is None else argv
    command = _chosen(arguments)
    return run_command(f"nnunet_ext {command.name}", import_module(command.module), arguments[1:])


def run_command(prog: str, module: Any, arguments: Sequence[str]) -> int:
    """Run a command's module with its arguments under the name by which it was called and return its exit code."""
    parser = _parser(prog, module.__doc__)
    module.add_arguments(parser)
    args = parser.parse_args(arguments)
    try:
        code = int(module.run(args))
        sys.stdout.flush()
        return code
    except ValueError as error:  # in this package a ValueError is always the caller's mistake, told in one sentence
        print(f"{prog}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        if _reader_is_gone():
            return READER_IS_GONE
        raise


def _reader_is_gone() -> bool:
    """Whether stdout, and no other pipe, is closed at the other end; then what is left to be written goes nowhere."""
    try:
        print(flush=True)  # a traceback follows where it was another pipe
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False
