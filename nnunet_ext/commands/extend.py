"""Go on with a finished training to more epochs.

The number of epochs is part of the trainer's name, for the learning rate depends on it. This copies the fold's
checkpoints to the results folder of the trainer with more epochs, where nnUNetv2_train --c goes on; the first folder
stays as it is. The learning rate jumps from the end of the shorter schedule to the same epoch of the longer one, which
is printed.
"""

import argparse
import shutil
from pathlib import Path
from typing import Any

from nnunet_ext.commands.preprocessed import results_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    parser.add_argument("d", metavar="DATASET", help="number or name of a preprocessed dataset")
    parser.add_argument("c", metavar="CONFIG", help="e.g. 3d_fullres")
    parser.add_argument("f", metavar="FOLD", help="0 to 4, or all")
    parser.add_argument("-tr", required=True, metavar="TRAINER", help="of the finished training")
    parser.add_argument("--epochs", required=True, type=int, metavar="N", help="in all, more than the trainer's")
    parser.add_argument("-p", default="nnUNetPlans", metavar="PLANS", help="default: nnUNetPlans")


def run(args: argparse.Namespace) -> int:
    """Copies the checkpoints and says how to go on."""
    from nnunet_ext.trainers.grammar import TrainerName, parse, with_epochs

    begun = parse(args.tr)
    if begun is None:
        raise ValueError(f"{args.tr} is not one of our trainers; `nnunet_ext list` shows them.")
    if args.epochs <= begun.recipe.epochs:
        raise ValueError(f"{args.tr} has {begun.recipe.epochs} epochs already; give more with --epochs.")
    name = with_epochs(args.tr, args.epochs)
    longer = parse(name)
    assert isinstance(longer, TrainerName)
    dataset = results_folder(args.d)
    before, after = (_fold(dataset, trainer, args) for trainer in (args.tr, name))
    epochs = _copy(before, after, name, longer.recipe.as_dict())
    rates = begun.recipe.learning_rate(begun.recipe.epochs - 1), longer.recipe.learning_rate(epochs)
    plans = "" if args.p == "nnUNetPlans" else f" -p {args.p}"
    print(
        f"{epochs} of {args.epochs} epochs are done. The learning rate goes from {rates[0]:.3g} to {rates[1]:.3g}. "
        f"Go on with\n\n    nnUNetv2_train {args.d} {args.c} {args.f} -tr {name}{plans} --c"
    )
    return 0


def _fold(dataset: Path, trainer: str, args: argparse.Namespace) -> Path:
    return dataset / f"{trainer}__{args.p}__{args.c}" / f"fold_{args.f}"


def _copy(before: Path, after: Path, name: str, recipe: dict[str, Any]) -> int:
    """Writes the checkpoints under the other name; returns the epochs that are done.

    Raises:
        ValueError: the training has not ended, or there is one in the other folder already.
    """
    from nnunet_ext.trainers import checkpoints, progress
    from nnunet_ext.trainers.reading import read_safely

    final = before / checkpoints.FINAL
    if not final.is_file():
        raise ValueError(f"There is no {final}: the training has not ended; go on with it by nnUNetv2_train --c first.")
    if any((after / file).exists() for file in checkpoints.ALL):
        raise ValueError(f"{after} holds a training already; move it away to begin there.")
    after.mkdir(parents=True, exist_ok=True)
    content = read_safely(final)
    checkpoints.write(extended(content, name, recipe), after / checkpoints.LATEST)
    if (best := before / checkpoints.BEST).is_file():
        checkpoints.write(extended(read_safely(best), name, recipe), after / checkpoints.BEST)
    if (lines := before / progress.FILE).is_file():
        shutil.copyfile(lines, after / progress.FILE)
    return int(content["current_epoch"])


def extended(content: dict[str, Any], name: str, recipe: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint as one of the longer training, which remembers with which recipe it was begun."""
    arguments = {key: value for key, value in content["init_args"].items() if key != "stopping"}
    earlier = {
        "trainer": content["trainer_name"],
        "epochs": content["current_epoch"],
        "recipe": arguments.get("recipe"),
    }
    arguments |= {"recipe": recipe, "extended": [*arguments.get("extended", []), earlier]}
    return {**content, "init_args": arguments, "trainer_name": name}
