"""Segment images by the ROI cascade: nnUNetv2_predict, with a detector that says where to look.

All flags of nnUNetv2_predict mean what they mean there; -npp and -nps count threads. The detector (-roi_...) sees the
whole brain in one patch; the segmentation network (-tr, -p, -c, -f, -chk) sees crops around what it found. Where it
finds nothing the whole volume is segmented by nnU-Net's sliding window, and OUTPUT/cascade/ says so: one JSON file a
case; OUTPUT/cascade_summary.json adds them up. A case that cannot be read or segmented does not stop the others: it is
listed at the end, and the exit code is 1.
"""

import argparse
import gc
import os
import sys
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_ext.cascade.settings import MERGES, CascadeSettings
from nnunet_ext.commands.preprocessed import results_folder
from nnunet_ext.images.folder import cases_of

if TYPE_CHECKING:
    import torch

    from nnunet_ext.cascade.predictor import nnUNetCascadePredictor

PROG = "nnUNetv2_predict_cascade"
FOLDS = (0, 1, 2, 3, 4)
DEFAULT = CascadeSettings()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options: nnU-Net's, the detector's, the cascade's."""
    _add_stock(parser)
    add = partial(parser.add_argument, metavar="NAME")
    add("-roi_tr", default="nnUNetTrainer_ROIMobileUNETR3D_Tiny", help="trainer of the detector (default: %(default)s)")
    add("-roi_p", help="plans of the detector (default: those of -p)")
    add("-roi_c", default="3d_roi", help="configuration of the detector (default: %(default)s)")
    add("-roi_f", nargs="+", type=_fold, default=FOLDS, metavar="FOLD", help="folds of the detector (default: 0 to 4)")
    add("-roi_chk", default="checkpoint_final.pth", help="checkpoint of the detector (default: %(default)s)")
    _add_settings(parser)


def _add_stock(parser: argparse.ArgumentParser) -> None:
    """The flags of nnUNetv2_predict; a test compares them with those of the installed one."""
    add, flag = parser.add_argument, partial(parser.add_argument, action="store_true")
    add("-i", required=True, metavar="FOLDER", help="images, named CASE_0000 and so on, as in training")
    add("-o", required=True, metavar="FOLDER", help="for the segmentations; made if it does not exist")
    add("-d", required=True, metavar="DATASET", help="number or name of the dataset")
    add("-p", default="nnUNetPlans", metavar="NAME", help="plans (default: %(default)s)")
    add("-tr", default="nnUNetTrainer", metavar="NAME", help="trainer of the segmentation (default: %(default)s)")
    add("-c", required=True, metavar="NAME", help="configuration of the segmentation network, a 3D one")
    add("-f", nargs="+", type=_fold, default=FOLDS, metavar="FOLD", help="folds, whose mean is taken (default: 0 to 4)")
    add("-step_size", type=float, default=0.5, help="step of overlapping crops, in crops (default: %(default)s)")
    flag("--disable_tta", help="do not mirror; faster, less accurate")
    flag("--verbose", help="say more")
    flag("--save_probabilities", help="write probabilities as well")
    flag("--continue_prediction", help="leave out cases that are there already")
    add("-chk", default="checkpoint_final.pth", metavar="NAME", help="checkpoint (default: %(default)s)")
    add("-npp", type=int, default=_from_environment("nnUNet_npp"), help="threads for reading (default: %(default)s)")
    add("-nps", type=int, default=_from_environment("nnUNet_nps"), help="threads for writing (default: %(default)s)")
    add("-prev_stage_predictions", metavar="FOLDER", help="predictions of the previous stage of nnU-Net's own cascade")
    add("-num_parts", type=int, default=1, metavar="N", help="how many such commands share the cases (default: 1)")
    add("-part_id", type=int, default=0, metavar="N", help="which of them this one is, from 0 (default: 0)")
    add("-device", default="cuda", choices=("cuda", "cpu", "mps"), help="default: %(default)s")
    flag("--disable_progress_bar", help="for logs")
    flag("--not_on_device", help="keep results in the main memory; slower, for large images on a small GPU")


def _add_settings(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    size = " ".join(map(str, DEFAULT.crop_size or ()))
    add("--crop_size", type=int, nargs=3, default=DEFAULT.crop_size, metavar=("Z", "Y", "X"), help=f"default: {size}")
    add("--max_components", type=int, default=DEFAULT.max_components, metavar="N", help="default: %(default)s")
    add("--min_component_ml", type=float, default=DEFAULT.min_component_ml, metavar="ML", help="default: %(default)s")
    add("--roi_threshold", type=float, default=DEFAULT.roi_threshold, metavar="P", help="default: %(default)s")
    add("--margin_mm", type=float, default=DEFAULT.margin_mm, metavar="MM", help="default: %(default)s")
    add("--merge", choices=MERGES, default=DEFAULT.merge, help="of overlapping crops (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Checks, reads both models, predicts."""
    settings = CascadeSettings(
        tuple(args.crop_size),
        args.max_components,
        args.min_component_ml,
        args.roi_threshold,
        args.margin_mm,
        args.merge,
    )
    _check(args)
    _import_predictor()
    from nnunet_ext.cascade.checks import check_previous_stage
    from nnunet_ext.cascade.threads import CasesFailedError

    models = results_folder(args.d)
    device = _device(args.device)
    predictor = _predictor(args, settings, device)
    predictor.initialize_from_trained_model_folder(str(models / f"{args.tr}__{args.p}__{args.c}"), args.f, args.chk)
    predictor.initialize_detector_from_trained_model_folder(
        str(models / f"{args.roi_tr}__{args.roi_p or args.p}__{args.roi_c}"), args.roi_f, args.roi_chk
    )
    cases_of(Path(args.i), predictor.dataset_json["file_ending"])  # before anything is written
    check_previous_stage(predictor, args.prev_stage_predictions)
    try:
        _predict(args, predictor)
    except CasesFailedError as failed:  # all others are done
        print(f"{PROG}: {failed}", file=sys.stderr)
    _tell(predictor, Path(args.o))
    return 1 if predictor.failures else 0


def _predict(args: argparse.Namespace, predictor: "nnUNetCascadePredictor") -> None:
    predictor.predict_from_files(
        args.i,
        args.o,
        args.save_probabilities,
        not args.continue_prediction,
        args.npp,
        args.nps,
        args.prev_stage_predictions,
        args.num_parts,
        args.part_id,
    )


def main() -> int:
    """The entry point."""
    from nnunet_ext.cli import run_command

    return run_command(PROG, sys.modules[__name__], sys.argv[1:])


def _import_predictor() -> None:
    """Imports torch and nnU-Net, half of the time of a case; a sixth of that would go into garbage collection."""
    collected = gc.isenabled()
    gc.disable()
    try:
        import_module("nnunet_ext.cascade.predictor")
    finally:
        if collected:
            gc.enable()


def _predictor(args: argparse.Namespace, settings: CascadeSettings, device: "torch.device") -> "nnUNetCascadePredictor":
    from nnunet_ext.cascade.predictor import nnUNetCascadePredictor

    return nnUNetCascadePredictor(
        args.step_size,
        use_gaussian=True,
        use_mirroring=not args.disable_tta,
        perform_everything_on_device=device.type == "cuda" and not args.not_on_device,
        device=device,
        verbose=args.verbose,
        verbose_preprocessing=args.verbose,
        allow_tqdm=not args.disable_progress_bar,
        settings=settings,
    )


def _tell(predictor: "nnUNetCascadePredictor", folder: Path) -> None:
    facts = [report.facts for report in predictor.reports]
    if facts:
        computed, window = (sum(f[k] for f in facts) for k in ("voxels_computed", "voxels_sliding_window"))
        fallbacks, dropped = (
            sum(bool(f["fallback"]) for f in facts),
            sum("dropped" in c for f in facts for c in f["components"]),
        )
        print(
            f"{len(facts)} cases, {window / computed:.1f} times fewer voxels than the sliding window; "
            f"{fallbacks} without crops, {dropped} components dropped; see {folder / 'cascade'}"
        )


def _check(args: argparse.Namespace) -> None:
    if not 0 < args.step_size <= 1:
        raise ValueError(f"-step_size must be above 0 and at most 1, not {args.step_size:g}.")
    if args.num_parts < 1:
        raise ValueError(f"-num_parts must be at least 1, not {args.num_parts}.")
    if not 0 <= args.part_id < args.num_parts:
        raise ValueError(f"-part_id counts from 0 to -num_parts - 1 = {args.num_parts - 1}; {args.part_id} is not it.")
    if min(args.npp, args.nps) < 0:
        raise ValueError("-npp and -nps must not be negative.")
    if Path(args.o).exists() and not Path(args.o).is_dir():
        raise ValueError(f"{args.o} is a file; -o names a folder.")
    if not Path(args.i).is_dir():
        raise ValueError(f"There is no folder {args.i}; -i names a folder of images as nnUNetv2_predict takes it.")
    if Path(args.o).exists() and Path(args.o).samefile(args.i):
        raise ValueError(f"-o names the folder of the images, {args.i}; give the segmentations one of their own.")


def _device(name: str) -> "torch.device":
    import torch
    from joblib import cpu_count

    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if not present[name]:
        raise ValueError(f"-device {name} is not available here; give -device cpu.")
    if name == "cpu":
        torch.set_num_threads(cpu_count())
    else:
        torch.set_num_threads(1)
    return torch.device(name)


def _fold(text: str) -> int | str:
    if text != "all" and not text.isdecimal():
        raise argparse.ArgumentTypeError(f"a fold is a number or 'all', not {text!r}")
    return text if text == "all" else int(text)


def _from_environment(name: str) -> Any:
    value = os.environ.get(name, "")
    return int(value) if value.isdecimal() else 3  # nnU-Net's


if __name__ == "__main__":
    sys.exit(main())
