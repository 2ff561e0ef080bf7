"""``splits_final.json`` before any training needs it: parallel trainings would each write it."""

import json
from pathlib import Path

import numpy as np
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.utilities.crossval_split import generate_crossval_split

from nnunet_ext.whole import write_text

SPLITS = "splits_final.json"
SEED, FOLDS = 12345, 5  # nnU-Net's, in nnUNetTrainer.do_split


def make_splits(folder: Path, data: Path) -> bool:
    """Writes the splits that nnU-Net's first training would write, whole or not at all, unless there are some.

    Args:
        folder: of the dataset in nnUNet_preprocessed.
        data: folder of preprocessed cases.

    Returns:
        Whether there were none.
    """
    path = folder / SPLITS
    if path.is_file():
        return False
    cases = infer_dataset_class(str(data)).get_identifiers(str(data))
    splits = generate_crossval_split(list(np.sort(list(cases))), seed=SEED, n_splits=FOLDS)
    plain = [{part: [str(case) for case in cases] for part, cases in fold.items()} for fold in splits]
    write_text(path, json.dumps(plain, indent=4))
    return True
