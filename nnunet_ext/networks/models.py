"""Every network under a dotted path, for plans files and the stock nnUNetTrainer.

``"network_class_name": "nnunet_ext.networks.models.DualBranchGhost"``; ``arch_kwargs`` may hold ``"size": "M"``
besides the plan's own entries.
"""

from typing import Any

from nnunet_ext.networks.registry import constructor


def __getattr__(name: str) -> Any:
    found = None if name.startswith("_") else constructor(name)
    if found is None:
        raise AttributeError(f"module {__name__!r} has no network {name!r}")
    return found
