"""Which files of a folder are the images of which case, as nnU-Net names them: CASE_0000.nii.gz and so on."""

import logging
import re
from collections.abc import Sequence
from pathlib import Path

LOG = logging.getLogger(__name__)
SHOWN = 5  # names in a message


def cases_of(folder: Path, ending: str) -> dict[str, list[Path]]:
    """The cases of a folder, in alphabetical order, each with its files in the order of their channels.

    Files of the ending that are named otherwise, hidden ones included, are left out and warned of: segmentations beside
    the images, or what macOS leaves.

    Args:
        folder: of the images.
        ending: of their names, of dataset.json.

    Raises:
        ValueError: there is no image.
    """
    found: dict[str, list[Path]] = {}
    others = []
    for path in sorted(folder.iterdir()):
        if not path.name.endswith(ending):
            continue
        match = re.fullmatch(rf"([^.].*)_\d{{4}}{re.escape(ending)}", path.name)
        if match and not path.is_dir():
            found.setdefault(match[1], []).append(path)
        else:
            others.append(path.name)
    if not found:
        raise ValueError(
            f"{folder} holds no image CASE_0000{ending}, which is how nnU-Net names a case's first channel."
        )
    if others:
        LOG.warning("%s: not named CASE_0000%s, so left out: %s.", folder, ending, named(others))
    return dict(sorted(found.items()))


def check_channel_numbers(files: Sequence[Path], ending: str) -> None:
    """Refuses files that are named as channels of a case and leave one out.

    Raises:
        ValueError: with the numbers that are there.
    """
    numbers = [m[1] for path in files if (m := re.search(rf"_(\d{{4}}){re.escape(ending)}$", path.name))]
    if len(numbers) == len(files) and [*map(int, numbers)] != [*range(len(files))]:
        raise ValueError(
            f"{files[0]} and its other channels have the numbers {', '.join(numbers)}; expected are 0000 to "
            f"{len(files) - 1:04d}."
        )


def named(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
