"""What the commands ``contributions`` and ``gradcam`` have in common: the model, the cases, the device."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_ext.images.folder import cases_of, named
from nnunet_ext.images.verify import check_image

if TYPE_CHECKING:
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

FOLD = "fold_"


@dataclass(frozen=True)
class Model:
    """A trained model, ready to predict.

    Attributes:
        folder: TRAINER__PLANS__CONFIGURATION.
        folds: that are used.
        predictor: nnU-Net's.
    """

    folder: Path
    folds: Sequence[int | str]
    predictor: "nnUNetPredictor"


def add_model(parser: argparse.ArgumentParser) -> None:
    """Declares which model."""
    add = parser.add_argument
    add("-m", "--model", type=Path, required=True, metavar="FOLDER", help="trained model, or one of its folds")
    add("-f", "--folds", nargs="+", metavar="FOLD", help="folds of the model (default: the fold of -m, or all)")
    add("-chk", default="checkpoint_final.pth", metavar="NAME", help="checkpoint (default: %(default)s)")
    add("-step_size", type=float, default=0.5, help="step of the sliding window, in patches (default: %(default)s)")
    add("-device", choices=("cuda", "cpu"), help="default: cuda where there is one")


def add_images(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Declares which images, and where the results go."""
    add = parser.add_argument
    add("-i", "--images", type=Path, required=required, metavar="FOLDER", help="images, named CASE_0000 and so on")
    add("-o", "--out", type=Path, required=required, metavar="FOLDER", help="for the results")
    add("--overwrite", action="store_true", help="compute finished cases again")


def model_of(args: argparse.Namespace, *, mirror: bool = False, one_fold: bool = False) -> Model:
    """Reads the model that the arguments name.

    Args:
        args: see :func:`add_model`.
        mirror: whether the predictor mirrors.
        one_fold: whether several folds are refused.

    Raises:
        ValueError: there is no such model, or no such checkpoint in it.
    """
    if not 0 < args.step_size <= 1:
        raise ValueError(f"-step_size must be above 0 and at most 1, not {args.step_size:g}.")
    from nnunet_ext.cascade.checks import folds_of
    from nnunet_ext.cascade.loading import load_model

    folder, wanted = _folder_and_folds(args)
    folds = folds_of(folder, wanted, args.chk, "-m")
    if one_fold and len(folds) > 1:
        raise ValueError(f"{folder} has the folds {', '.join(map(str, folds))} with {args.chk}; choose one with -f.")
    predictor = _predictor(args, mirror)
    load_model(predictor, folder, folds, args.chk)
    return Model(folder, folds, predictor)


def _folder_and_folds(args: argparse.Namespace) -> tuple[Path, list[str] | None]:
    folder = args.model.absolute()
    if not folder.name.startswith(FOLD):
        return folder, args.folds
    own = folder.name.removeprefix(FOLD)
    if args.folds and args.folds != [own]:
        raise ValueError(f"-m names {folder.name} and -f {' '.join(args.folds)}; give the model's folder with -f.")
    return folder.parent, [own]


def _predictor(args: argparse.Namespace, mirror: bool) -> "nnUNetPredictor":
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    there = torch.cuda.is_available()
    if args.device == "cuda" and not there:
        raise ValueError("-device cuda is not available here; give -device cpu.")
    device = torch.device(args.device or ("cuda" if there else "cpu"))
    on_device = device.type == "cuda"
    return nnUNetPredictor(args.step_size, True, mirror, on_device, device, allow_tqdm=False)


def images_of(args: argparse.Namespace, model: Model) -> dict[str, list[Path]]:
    """The cases of the folder, each with its files in the order of the channels, all of them whole.

    Raises:
        ValueError: no images, a case without one of its channels, or a file that is damaged.
    """
    from nnunet_ext.explain.cases import check_stage, modalities_of

    check_stage(model.predictor)
    if not args.images.is_dir():
        raise ValueError(f"There is no folder {args.images}; -i names a folder of images as nnUNetv2_predict takes it.")
    if args.out.exists() and not args.out.is_dir():
        raise ValueError(f"{args.out} is a file; -o names a folder.")
    ending = model.predictor.dataset_json["file_ending"]
    cases = cases_of(args.images, ending)
    for case, files in cases.items():
        _check_channels(case, files, modalities_of(model.predictor), ending)
        for path in files:
            check_image(path)
    return cases


def _check_channels(case: str, files: Sequence[Path], modalities: Sequence[str], ending: str) -> None:
    wanted = [f"{case}_{i:04d}{ending}" for i in range(len(modalities))]
    there = {path.name for path in files}
    missing = [f"{name} ({modality})" for name, modality in zip(wanted, modalities, strict=True) if name not in there]
    more = sorted(there - set(wanted))
    if missing or more:
        what = f"lacks {', '.join(missing)}" if missing else f"has {', '.join(more)} as well"
        raise ValueError(f"{case} {what}; the network reads {', '.join(modalities)}, in this order.")


def references_of(folder: Path, cases: Sequence[str], ending: str) -> dict[str, Path]:
    """The reference segmentation of each case.

    Raises:
        ValueError: no folder, or no reference for a case.
    """
    if not folder.is_dir():
        raise ValueError(f"There is no folder {folder}; -l names a folder of reference segmentations, CASE{ending}.")
    found = {case: folder / f"{case}{ending}" for case in cases}
    missing = [path.name for path in found.values() if not path.is_file()]
    if missing:
        raise ValueError(f"{folder} lacks the reference {named(missing)}; every case of -i needs one.")
    for path in found.values():
        check_image(path)
    return found


def facts_of(model: Model) -> dict[str, Any]:
    """What the results say of the model."""
    predictor = model.predictor
    return {"trainer": predictor.trainer_name, "dataset": predictor.plans_manager.dataset_name}
