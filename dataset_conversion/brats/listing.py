"""What lies below a source folder: files, folders, archives, and what could not be read."""

import os
from dataclasses import dataclass, field
from pathlib import Path

ENDINGS = (".nii.gz", ".nii")
ARCHIVES = (".tar.gz", ".tar.bz2", ".tar.xz", ".tgz", ".tar", ".zip", ".7z", ".rar")
UNFINISHED = (".part", ".partial", ".filepart", ".crdownload", ".download", ".aria2", ".tmp")
"""Endings that browsers and download programs give to what they have not finished."""
SHADOWS = "__MACOSX"
"""Folder that macOS puts into zip files, with a shadow of each file and folder."""


@dataclass
class Listing:
    """All below a folder, in a fixed order; archives are not among the files."""

    files: list[Path] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    archives: list[Path] = field(default_factory=list)
    unreadable: list[OSError] = field(default_factory=list)


def _ending(name: str, endings: tuple[str, ...]) -> str:
    return next((ending for ending in endings if name.lower().endswith(ending)), "")


def ending_of(path: Path) -> str:
    """``.nii.gz``, ``.nii``, or nothing for another file."""
    return _ending(path.name, ENDINGS)


def stem_of(name: str) -> str:
    """A file's or archive's name without its ending (``CASE_t1.nii.gz.zip``: without both)."""
    packed = _ending(name, ARCHIVES)
    inner = name[: len(name) - len(packed)]
    return inner[: len(inner) - len(_ending(inner, ENDINGS))]


def unfinished(name: str) -> str:
    """The name that an unfinished download will have; nothing for another file."""
    ending = _ending(name, UNFINISHED)
    return stem_of(name[: -len(ending)]) if ending else ""


def list_tree(source: Path) -> Listing:
    """List all below ``source``; links to folders are followed, each folder once."""
    listing = Listing()
    seen = set()
    for folder, subfolders, names in os.walk(source, followlinks=True, onerror=listing.unreadable.append):
        status = Path(folder).stat()
        if (status.st_dev, status.st_ino) in seen:
            subfolders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        subfolders[:] = sorted(name for name in subfolders if name != SHADOWS)
        listing.folders += [Path(folder) / name for name in subfolders]
        for name in sorted(names):
            (listing.archives if _ending(name, ARCHIVES) else listing.files).append(Path(folder) / name)
    return listing
