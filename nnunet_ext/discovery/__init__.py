"""How nnU-Net finds our trainers: the folder ``hook``, to which the variable nnUNet_extTrainer points.

nnU-Net puts each folder of that variable on ``sys.path``, imports every module in it until one has an attribute of the
trainer's name, and afterwards forgets what it imported from there. So the folder is a leaf that holds one module only,
and that module holds no class: it forwards names to the package, which is imported as usual and therefore stays.
"""

import os
from pathlib import Path

HOOK_VARIABLE = "nnUNet_extTrainer"
SHIM = "nnunet_ext_trainers.py"


def hook_folder() -> Path:
    """Return the absolute path that nnUNet_extTrainer must hold; links in it stay, they differ between machines."""
    return Path(os.path.abspath(__file__)).parent / "hook"


def is_hook(folder: str) -> bool:
    """Tell whether ``folder`` is the hook of this or another installation of the package, removed ones included."""
    ours = hook_folder().parts[-3:]
    return Path(os.path.normpath(folder)).parts[-3:] == ours or os.path.isfile(os.path.join(folder, SHIM))


def held_folders() -> list[str]:
    """Return what nnUNet_extTrainer holds, in nnU-Net's order."""
    return [folder for folder in os.environ.get(HOOK_VARIABLE, "").split(os.pathsep) if folder.strip()]


def folders_after_ours() -> list[str]:
    """Return the folders of nnUNet_extTrainer that nnU-Net searches after ours, those that exist."""
    folders = held_folders()
    real = [os.path.realpath(folder) for folder in folders]
    ours = os.path.realpath(hook_folder())
    after = folders[real.index(ours) + 1 :] if ours in real else []
    return [folder for folder in after if os.path.isdir(folder) and os.path.realpath(folder) != ours]


def folders_with_ours() -> str:
    """What nnUNet_extTrainer holds; where our folder is not among it, it is put first."""
    folders = held_folders()
    if os.path.realpath(hook_folder()) in map(os.path.realpath, folders):
        return os.pathsep.join(folders)
    return os.pathsep.join([str(hook_folder()), *folders])
