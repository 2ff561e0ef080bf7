"""What nnU-Net and its networks consist of in this process, to see whether something was patched."""

import sys
import types
from collections.abc import Iterator

HOSTS = ("nnunetv2", "dynamic_network_architectures")

Key = tuple[str, ...]


def snapshot() -> dict[Key, object]:
    """Everything in the imported modules of the hosts, by its name.

    Attributes of modules and of the classes in them, and the parts of functions that can be exchanged while the
    function stays the same object.
    """
    modules = {name: module for name, module in list(sys.modules.items()) if is_of_host(name)}
    return {key: value for name, module in modules.items() for key, value in _inside(name, module)}


def changed(before: dict[Key, object]) -> list[str]:
    """Names of what is gone or another object now."""
    after = snapshot()
    missing = object()
    return [" ".join(key) for key, value in before.items() if after.get(key, missing) is not value]


def is_of_host(module: str) -> bool:
    return module.partition(".")[0] in HOSTS


def _inside(name: str, owner: types.ModuleType | type) -> Iterator[tuple[Key, object]]:
    for attribute, value in list(vars(owner).items()):
        yield (name, attribute), value
        function = getattr(value, "__func__", value)  # of class methods and static methods
        if isinstance(function, types.FunctionType) and is_of_host(function.__module__):
            yield (name, attribute, "code"), function.__code__
            yield (name, attribute, "defaults"), function.__defaults__
            yield (name, attribute, "keyword defaults"), function.__kwdefaults__
        if isinstance(value, type) and isinstance(owner, types.ModuleType) and value.__module__ == name:
            yield from _inside(f"{name}.{attribute}", value)
