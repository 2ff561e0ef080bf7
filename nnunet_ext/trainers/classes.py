"""The module in which all trainer classes live, made on demand (PEP 562)."""

from typing import Any


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from nnunet_ext.trainers.factory import trainer_class

    return trainer_class(name)
