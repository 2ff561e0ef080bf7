"""Add the cascade's configurations 3d_roi and 3d_crop to a dataset's plans, and preprocess 3d_roi.

3d_roi holds the whole brain in one patch, at the finest isotropic spacing at which the largest brain of the dataset
fits: the detector is trained in it. 3d_crop has the data of 3d_fullres and the size of the cascade's crops: a network
that is trained in it sees what the cascade will show it. Then:

  nnUNetv2_train DATASET 3d_roi FOLD -tr nnUNetTrainer_ROIMobileUNETR3D_Tiny
  nnUNetv2_train DATASET 3d_crop FOLD -tr nnUNetTrainer_DualBranchGhost_CoordConv
  nnUNetv2_predict_cascade -d DATASET -c 3d_crop -tr nnUNetTrainer_DualBranchGhost_CoordConv -f FOLD -roi_f FOLD ...
"""

import argparse
import json
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from nnunet_ext.commands.preprocessed import dataset_folder, dataset_number, read_plans
from nnunet_ext.whole import write_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    parser.add_argument("-d", required=True, metavar="DATASET", help="number or name of a dataset that is planned")
    parser.add_argument("-p", default="nnUNetPlans", metavar="PLANS", help="plans to add to (default: %(default)s)")
    axes = partial(parser.add_argument, type=int, nargs=3, metavar=("Z", "Y", "X"))
    axes("--size", default=[64] * 3, help="patch of the detector (default: 64 64 64)")
    axes("--crop", default=[96] * 3, help="patch of the crops (default: 96 96 96)")
    parser.add_argument("-np", type=int, metavar="N", help="processes (default: nnU-Net's, nnUNet_def_n_proc)")
    parser.add_argument("--no_pp", action="store_true", help="only plan; nnUNetv2_preprocess -c 3d_roi does the rest")


def run(args: argparse.Namespace) -> int:
    """Adds both configurations, says what they are, preprocesses."""
    from nnunet_ext.planning.roi import CROP, ROI, times_planned, with_cascade

    folder = dataset_folder(args.d)
    plans, fingerprint = read_plans(folder, args.p), _fingerprint(folder)
    if min(*args.size, *args.crop) < 1 or (args.np is not None and args.np < 1):
        raise ValueError("--size, --crop and -np must be positive numbers.")
    if not args.no_pp:
        _check_raw(folder, args.np)
    changed = with_cascade(plans, fingerprint, args.size, args.crop)
    _write(folder / f"{args.p}.json", changed)
    for name in (ROI, CROP):
        configuration = changed["configurations"][name]
        replaced = plans["configurations"].get(name, configuration) != configuration
        print(_line(name, configuration) + (" (replaces an earlier one of this name)" if replaced else ""))
        if replaced and args.no_pp and name == ROI:
            print(f"Data of the earlier {ROI} no longer fit; run nnUNetv2_preprocess -c {ROI} before training.")
    if (times := times_planned(changed)) > 1:
        print(
            f"{CROP} has {times:.1f} times the voxels of 3d_fullres in a batch, so training needs about as many times "
            "the memory that the plans were made for; a smaller --crop needs less."
        )
    if not args.no_pp:
        _preprocess(folder, args.p, args.np)
    return 0


def _line(name: str, configuration: dict[str, Any]) -> str:
    patch = "x".join(map(str, configuration["patch_size"]))
    if spacing := configuration.get("spacing"):
        return f"{name}: patch {patch} at {spacing[0]:.3f} mm"
    return f"{name}: patch {patch}, batch {configuration['batch_size']}, spacing and data of 3d_fullres"


def _fingerprint(folder: Path) -> dict[str, Any]:
    path = folder / "dataset_fingerprint.json"
    if not path.is_file():
        raise ValueError(f"The size of the brains is read from {path}, which does not exist; plan the dataset first.")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _check_raw(folder: Path, processes: int | None) -> None:
    raw = os.environ.get("nnUNet_raw")
    if not raw or not Path(raw, folder.name).is_dir():
        where = Path(raw, folder.name) if raw else "nnUNet_raw, which is not set"
        raise ValueError(f"Preprocessing reads the images in {where}; set nnUNet_raw, or only plan with --no_pp.")
    _check_images(Path(raw, folder.name), processes)


def _check_images(folder: Path, processes: int | None) -> None:
    """Refuses a dataset with a file that is not whole: nnU-Net's reader would not notice."""
    from nnunetv2.configuration import default_num_processes
    from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

    cases = get_filenames_of_train_images_and_targets(str(folder)).values()
    paths = [Path(file) for case in cases for file in (*case["images"], case["label"])]
    with ThreadPoolExecutor(processes or default_num_processes) as pool:
        faults = [*filter(None, pool.map(_fault, paths))]
    if faults:
        raise ValueError(f"Nothing is preprocessed: {len(faults)} of {len(paths)} files are not whole. {faults[0]}")


def _fault(path: Path) -> str:
    from nnunet_ext.images.verify import check_image

    try:
        check_image(path)
    except ValueError as error:  # told with the number of others
        return str(error)
    return ""


def _write(path: Path, plans: dict[str, Any]) -> None:
    """The whole file or the old one."""
    if not os.access(path, os.W_OK) or not os.access(path.parent, os.W_OK):
        raise ValueError(f"{path} cannot be written; change its permissions.")
    write_text(path, json.dumps(plans, indent=4))


def _preprocess(folder: Path, plans: str, processes: int | None) -> None:
    from nnunetv2.configuration import default_num_processes
    from nnunetv2.experiment_planning.plan_and_preprocess_api import preprocess_dataset

    from nnunet_ext.planning.roi import ROI

    preprocess_dataset(dataset_number(folder), plans, (ROI,), (processes or default_num_processes,))
