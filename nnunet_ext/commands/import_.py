"""Take over a model that `nnunet_ext export` wrote, so that nnUNetv2_predict finds it.

Every part is checked against its SHA-256 before anything is written, and nothing in the file can run code. The model
goes into nnUNet_results under its own names; folds that are there already are not overwritten.
"""

import argparse
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_ext.commands.env import RESULTS_VARIABLE

if TYPE_CHECKING:
    from nnunet_ext.commands.model_archive import Model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    parser.add_argument("file", type=Path, metavar="FILE.zip", help="what nnunet_ext export wrote")


def run(args: argparse.Namespace) -> int:
    """Imports and says where the model is."""
    from nnunet_ext.commands import model_archive

    results = os.environ.get(RESULTS_VARIABLE)
    if not results:
        raise ValueError(f"{RESULTS_VARIABLE} is not set; `nnunet_ext env` tells how to set it.")
    model, files = model_archive.read(args.file)
    folder = model.folder(Path(results))
    _check_target(model, folder, files)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".import") as made:
        _unpack(model, files, Path(made))
        if folder.is_dir():
            for fold in model.folds:
                Path(made, f"fold_{fold}").rename(folder / f"fold_{fold}")
        else:
            shutil.copytree(made, partial := folder.with_name(folder.name + ".partial"))
            partial.rename(folder)
    print(f"{folder}: folds {', '.join(model.folds)}")
    return 0


def _check_target(model: "Model", folder: Path, files: dict[str, bytes]) -> None:
    """Refuses to mix models: the folds of one folder share plans and dataset."""
    for fold in model.folds:
        if (folder / f"fold_{fold}").exists():
            raise ValueError(f"{folder / f'fold_{fold}'} is there already; rename or remove it first.")
    for name in ("plans.json", "dataset.json"):
        if (folder / name).is_file() and (folder / name).read_bytes() != files[name]:
            raise ValueError(f"{folder} holds folds with another {name}; rename it first.")


def _unpack(model: "Model", files: dict[str, bytes], folder: Path) -> None:
    from nnunet_ext.commands import model_archive
    from nnunet_ext.trainers import checkpoints

    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        if path.name not in (model_archive.WEIGHTS, model_archive.FACTS):
            path.write_bytes(data)
    for fold in model.folds:
        checkpoints.write(model_archive.checkpoint(files, fold), folder / f"fold_{fold}" / model.checkpoint)
