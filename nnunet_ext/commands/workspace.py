"""Checks of nnU-Net's folders, of the datasets in them and of its variables."""

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from nnunet_ext.commands.env import FOLDER_VARIABLES, RAW_VARIABLE, RESULTS_VARIABLE
from nnunet_ext.commands.finding import Finding, error, ok, warning
from nnunet_ext.commands.installation import SET_UP

WORKERS_VARIABLE = "nnUNet_n_proc_DA"
SAFE_VARIABLE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"  # torch's own
QUOTES = ("'", '"')


def check_folders() -> Iterator[Finding]:
    """Tell whether nnU-Net's folders are set, exist and can be written."""
    for name in FOLDER_VARIABLES:
        value = os.environ.get(name)
        yield _folder(name, value) if value else error(f"{name} is not set.", SET_UP)


def _folder(name: str, value: str) -> Finding:
    if value.startswith(QUOTES) or value.endswith(QUOTES):
        return error(f"{name} is {value}, quotes included.", "Set it again without them.")
    if not os.path.isabs(value):
        return error(
            f"{name} is {value!r}, another folder for every folder you work in.", "Set it to an absolute path."
        )
    if os.path.lexists(value) and not os.path.isdir(value):
        return error(f"{name} is {value}, which is not a folder.", "Remove the file or set another folder.")
    if not os.path.isdir(value):
        return _missing(name, value)
    refusal = _refusal(value)
    if refusal is None:
        return ok(f"{name} is {value}")
    # conversion alone writes there: many share one read-only nnUNet_raw
    level = warning if name == RAW_VARIABLE else error
    return level(f"{name} is {value}, which cannot be written: {refusal}.", "Ask its owner, or set another folder.")


def _missing(name: str, value: str) -> Finding:
    parent = next((folder for folder in Path(value).parents if os.path.isdir(folder)), Path(value).parent)
    refusal = _refusal(parent)
    if refusal is None:
        return warning(
            f"{name} is {value}, which does not exist yet.", "It is made when it is needed; look for a typo."
        )
    return error(f"{name} is {value}, which does not exist, and {parent}: {refusal}.", "Set another folder.")


def _refusal(folder: str | Path) -> str | None:
    """Return why nothing can be written in ``folder``; None if it can. Permission bits alone do not tell."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as reason:
        return str(reason.strerror)


def check_workers() -> Iterator[Finding]:
    """Look for numbers of augmentation workers with which nnU-Net crashes."""
    value = os.environ.get(WORKERS_VARIABLE)
    if value is None:
        return
    if not value.strip().isdecimal():
        yield error(
            f"{WORKERS_VARIABLE} is {value!r}, which is not a number of processes.", f"Unset {WORKERS_VARIABLE}."
        )
    elif int(value) == 0:
        yield warning(
            f"{WORKERS_VARIABLE} is 0: training augments in its own process, but nnUNetv2_plan_and_preprocess crashes.",
            f"Unset it, and write {WORKERS_VARIABLE}=0 before the training command alone.",
        )


def check_safe_loading() -> Iterator[Finding]:
    """Tell whether nnU-Net's commands, which ask torch to run what a checkpoint contains, are kept from it."""
    if os.environ.get(SAFE_VARIABLE, "").lower() in ("1", "y", "yes", "true"):  # torch's list
        yield ok(f"{SAFE_VARIABLE} is {os.environ[SAFE_VARIABLE]}: nnU-Net's commands read data alone")
    else:
        yield ok(
            f"{SAFE_VARIABLE} is not set: nnUNetv2_predict and -pretrained_weights run what a checkpoint asks for; set "
            f"it to 1 for those of others"
        )


def check_clipping() -> Iterator[Finding]:
    """Look for datasets whose images were clipped, which nnU-Net will not do to the images that it predicts."""
    patterns = {RAW_VARIABLE: "Dataset*/dataset.json", RESULTS_VARIABLE: "Dataset*/*/dataset.json"}
    raw = Path(os.environ.get(RAW_VARIABLE, ""))
    folders = [(Path(os.environ[name]), pattern) for name, pattern in patterns.items() if os.environ.get(name)]
    for path in (path for folder, pattern in folders for path in sorted(folder.glob(pattern))):
        try:
            limits = json.loads(path.read_text(encoding="utf-8")).get("clip_percentiles")
        except (OSError, ValueError, AttributeError) as reason:
            yield warning(f"{path} cannot be read: {reason}.", "Convert the dataset again.")
            continue
        if limits:
            # --like takes the name of a raw dataset, or the folder of a trained model, whose raw data may be elsewhere
            name = path.parent.name if path.parents[1] == raw else path.parent
            yield warning(
                f"The images of {name} were clipped to their percentiles {limits}, and nnUNetv2_predict does not clip.",
                f"Put its inputs through python dataset_conversion/convert_brats.py SOURCE --like {name}.",
            )
