"""Forwards the names that nnU-Net looks for to ``nnunet_ext.trainers``; the only module in this folder, on purpose."""

import warnings


def __getattr__(name: str) -> type:
    """Return the trainer class called ``name``.

    Raises AttributeError for a name that is not ours, so that nnU-Net goes on looking, and ValueError for a name that
    starts like ours and has an illegal word. Where other folders are still to be searched, such a name may be theirs:
    then the sentence is a warning and nnU-Net goes on looking.
    """
    if name.startswith("__"):  # asked by Python itself at every import: not worth importing torch
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from nnunet_ext.discovery import folders_after_ours
    from nnunet_ext.trainers import trainer_class

    try:
        return trainer_class(name)
    except ValueError as error:
        others = folders_after_ours()
        if not others:
            raise
        warnings.warn(f"{error} nnU-Net looks for it in {', '.join(others)} now.", stacklevel=2)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from error
