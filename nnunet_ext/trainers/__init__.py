"""nnU-Net's trainer meets the networks here."""

from typing import Any


def trainer_class(name: str) -> Any:
    """The trainer class of this name; see :func:`nnunet_ext.trainers.factory.trainer_class`."""
    from nnunet_ext.trainers import factory

    return factory.trainer_class(name)
