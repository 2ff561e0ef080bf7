"""Whether an image file is whole, asked before anything trusts it.

ITK reads a gzip file that is cut short without a word, the missing voxels as they happen to be; nnU-Net reads by ITK.
"""

import zlib
from math import prod
from pathlib import Path
from typing import Any

import nibabel as nib
from isal import igzip, isal_zlib
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

NIFTI = (".nii", ".nii.gz")
CHUNK = 2**22  # bytes
AXES = 3
DAMAGE: tuple[Any, ...] = (
    OSError,
    EOFError,
    zlib.error,
    isal_zlib.error,
    ImageFileError,
    HeaderDataError,
    WrapStructError,
    ValueError,
)


def check_image(path: Path) -> None:
    """Refuses a NIfTI file that is damaged, cut short or has more than three axes; other formats are left alone.

    The gzip checksum is verified, and the size is that which the header promises.

    Args:
        path: of the file.

    Raises:
        ValueError: with what is wrong and what to do.
    """
    if not path.name.endswith(NIFTI):
        return
    try:
        voxels, held = nib.load(path).dataobj, _size(path)
        shape, needed = voxels.shape, voxels.offset + prod(voxels.shape) * voxels.dtype.itemsize
    except DAMAGE as error:
        reason = " ".join(str(error).split()).removesuffix(".") or type(error).__name__
        raise ValueError(f"{path} is damaged or no NIfTI file ({reason}); download or copy it again.") from error
    if held < needed:
        raise ValueError(
            f"{path} is cut short: its header promises {needed} bytes and {held} are there; download or copy it again."
        )
    if prod(shape[AXES:]) > 1:
        size = "x".join(map(str, shape))
        raise ValueError(
            f"{path} is {len(shape)}D ({size}); split it into one file a channel, CASE_0000, CASE_0001 and so on."
        )


def _size(path: Path) -> int:
    """Bytes of the file, uncompressed; reading to the end verifies the checksum."""
    if path.suffix != ".gz":
        return path.stat().st_size
    with igzip.open(path, "rb") as file:
        return sum(map(len, iter(lambda: file.read(CHUNK), b"")))
