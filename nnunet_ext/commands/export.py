"""Write a trained model into one file that holds data alone: weights as safetensors, and texts.

The file has the plans, dataset.json, the recipe and a SHA-256 of every part. Who imports it gets the same voxels from
every prediction. The optimiser's state is left out, so an imported model predicts, or starts a training with
-pretrained_weights, but does not continue one.
"""

import argparse
from importlib import metadata
from pathlib import Path

from nnunet_ext.commands.preprocessed import results_folder

PACKAGES = ("nnunet_ext", "nnunetv2", "torch", "dynamic-network-architectures")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    parser.add_argument("-d", required=True, metavar="DATASET", help="number or name of the dataset")
    parser.add_argument("-tr", required=True, metavar="TRAINER", help="e.g. nnUNetTrainer_DualBranchGhost")
    parser.add_argument("-p", default="nnUNetPlans", metavar="PLANS", help="default: nnUNetPlans")
    parser.add_argument("-c", required=True, metavar="CONFIG", help="e.g. 3d_fullres")
    parser.add_argument("-f", nargs="+", required=True, metavar="FOLD", help="e.g. 0 1 2 3 4, or all")
    parser.add_argument("-chk", default="checkpoint_final.pth", metavar="FILE", help="default: checkpoint_final.pth")
    parser.add_argument("-o", required=True, type=Path, metavar="OUT.zip", help="the file to write")


def run(args: argparse.Namespace) -> int:
    """Exports and says what was written."""
    from nnunet_ext.commands import model_archive

    if not args.o.parent.is_dir():
        raise ValueError(f"There is no folder {args.o.parent} to write {args.o.name} into; create it first.")
    dataset, folds = results_folder(args.d), tuple(args.f)
    model = model_archive.Model(dataset.name, args.tr, args.p, args.c, folds, args.chk)
    files = model_archive.pack(model, dataset.parent, {name: metadata.version(name) for name in PACKAGES})
    model_archive.write(files, args.o)
    print(f"{args.o}: {model.trainer}, {model.configuration} of {model.dataset}, folds {', '.join(folds)}")
    return 0
