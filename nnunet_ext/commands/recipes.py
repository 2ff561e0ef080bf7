"""List the words of trainer names: what each does, what happens without it, and whether `plan` predicts its memory.

With a trainer's name: the whole recipe of that trainer, as its training would save it.
"""

import argparse
import json

from nnunet_ext.commands.table import aligned
from nnunet_ext.trainers.catalogue import word_cells


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    parser.add_argument("trainer", nargs="?", metavar="TRAINER", help="e.g. nnUNetTrainer_UNETR_250epochs")


def run(args: argparse.Namespace) -> int:
    """Prints the table or the recipe."""
    print(aligned(word_cells()) if args.trainer is None else json.dumps(_recipe(args.trainer), indent=2))
    return 0


def _recipe(name: str) -> dict[str, object]:
    from nnunet_ext.trainers.grammar import parse

    parsed = parse(name)
    if parsed is None:
        raise ValueError(f"{name} is not one of our trainers; `nnunet_ext list` shows them.")
    return {"network": parsed.spec.name, "size": parsed.size, **parsed.recipe.as_dict()}
