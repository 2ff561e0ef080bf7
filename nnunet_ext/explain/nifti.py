"""Maps as NIfTI files that lie on their image."""

from pathlib import Path

import numpy as np
import SimpleITK
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from numpy.typing import NDArray

from nnunet_ext.whole import aside

READERS = ("SimpleITKIO", "NibabelIO")
"""Of nnU-Net, whose arrays have SimpleITK's order of axes; others turn the image before it is seen."""
ENDING = ".nii.gz"


def check_reader(predictor: nnUNetPredictor) -> None:
    """Refuses datasets whose images nnU-Net turns when it reads them.

    Raises:
        ValueError: with the readers that are known.
    """
    reader = predictor.plans_manager.image_reader_writer_class.__name__
    if reader not in READERS:
        raise ValueError(
            f"The dataset's images are read by nnU-Net's {reader}; maps can be laid on images that are read by "
            f"{' or '.join(READERS)}."
        )


def write_map(map_: NDArray[np.floating], image: Path, path: Path) -> None:
    """Writes a map (Z, Y, X) with the geometry of an image of its shape, whole or not at all."""
    written = SimpleITK.GetImageFromArray(map_.astype(np.float32))
    written.CopyInformation(SimpleITK.ReadImage(str(image)))
    with aside(path) as partial:
        SimpleITK.WriteImage(written, str(partial), True)
