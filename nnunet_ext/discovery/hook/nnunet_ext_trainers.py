"""Forwards the names that nnU-Net looks for to ``nnunet_ext.trainers``; the only module in this folder, on purpose."""


def __getattr__(name: str) -> type:
    """Return the trainer class called ``name``.

    Raises AttributeError for a name that is not ours, so that nnU-Net goes on looking, and ValueError for a name that
    starts like ours and has an illegal word.
    """
    if name.startswith("__"):  # asked by Python itself at every import: not worth importing torch
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from nnunet_ext.trainers import trainer_class

    return trainer_class(name)
