"""A serial BraTS converter in the manner of nnU-Net's own: copy the images, rewrite every label map, check nothing.

    python benchmarks/peers/serial_conversion.py SOURCE OUT

The yardstick of ``benchmarks/convert_brats.py``; our own code, and not for use on data that matters.
"""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import SimpleITK

MODALITIES = ("t1", "t1ce", "t2", "flair")


def rewrite_labels(source: Path, target: Path) -> None:
    """Write the label map ``source`` with 3 for the edition's 4."""
    image = SimpleITK.ReadImage(str(source))
    labels = SimpleITK.GetArrayFromImage(image)
    rewritten = np.zeros_like(labels)
    for old, new in ((1, 1), (2, 2), (4, 3)):
        rewritten[labels == old] = new
    result = SimpleITK.GetImageFromArray(rewritten)
    result.CopyInformation(image)
    SimpleITK.WriteImage(result, str(target))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, metavar="SOURCE")
    parser.add_argument("out", type=Path, metavar="OUT")
    args = parser.parse_args()
    for folder in ("imagesTr", "labelsTr"):
        (args.out / folder).mkdir(parents=True)
    segmentations = sorted(args.source.rglob("*_seg.nii.gz"))
    for path in segmentations:
        case = path.parent.name
        for channel, modality in enumerate(MODALITIES):
            target = args.out / "imagesTr" / f"{case}_{channel:04d}.nii.gz"
            shutil.copy(path.with_name(f"{case}_{modality}.nii.gz"), target)
        rewrite_labels(path, args.out / "labelsTr" / f"{case}.nii.gz")
    dataset = {
        "channel_names": {str(channel): modality for channel, modality in enumerate(MODALITIES)},
        "labels": {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [1, 3], "enhancing tumor": [3]},
        "regions_class_order": [2, 1, 3],
        "numTraining": len(segmentations),
        "file_ending": ".nii.gz",
    }
    (args.out / "dataset.json").write_text(json.dumps(dataset, indent=4), encoding="utf-8")


if __name__ == "__main__":
    main()
