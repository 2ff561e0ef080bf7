"""Makes a trainer class from its name.

The classes are made once per process, define no methods, and are found again by pickle in :mod:`.classes`.
"""

from functools import cache
from pydoc import locate

from nnunet_ext.trainers.base import ExtTrainer
from nnunet_ext.trainers.grammar import parse

MODULE = "nnunet_ext.trainers.classes"


@cache
def trainer_class(name: str) -> type[ExtTrainer]:
    """The trainer of this name.

    Raises:
        AttributeError: the name is not that of one of our networks, so nnU-Net goes on looking.
        ValueError: one of our networks with words that are not legal; the sentence says which are.
    """
    parsed = parse(name)
    if parsed is None:
        raise AttributeError(f"module {MODULE!r} has no trainer {name!r}")
    task = parsed.spec.task
    path = task.joint_trainer if parsed.recipe.joint else task.trainer
    base = locate(path)
    assert isinstance(base, type), f"{path} is no trainer"
    attributes = {"spec": parsed.spec, "size": parsed.size, "recipe": parsed.recipe, "__module__": MODULE}
    return type(name, (base,), attributes)
