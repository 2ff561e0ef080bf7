"""Which image channel holds which modality. Plain data, no torch."""

from collections.abc import Mapping, Sequence
from typing import Any

ALIASES: Mapping[str, tuple[str, ...]] = {
    "t1": ("t1", "t1n", "t1w"),
    "t1ce": ("t1ce", "t1c", "t1gd"),
    "t2": ("t2", "t2w"),
    "flair": ("flair", "t2f"),
}
# the order of our converter, and what a network assumes until a dataset says otherwise
DEFAULT_ORDER: Mapping[int, tuple[str, ...]] = {4: ("t1", "t1ce", "t2", "flair"), 2: ("t1ce", "flair")}


def modality_of(channel_name: str) -> str | None:
    """The modality that a channel name of a dataset.json stands for, or None; upper and lower case are alike."""
    return next((m for m, names in ALIASES.items() if channel_name.strip().lower() in names), None)


def default_channels(modalities: Sequence[str], image_channels: int) -> tuple[int, ...]:
    """Channel of each modality in our own order.

    Raises:
        ValueError: for another number of channels than 4 or 2, or when a modality is not among them.
    """
    if image_channels not in DEFAULT_ORDER:
        raise ValueError(
            f"A network with branches per modality reads 4 image channels (T1, T1ce, T2, FLAIR) or 2 (T1ce, FLAIR), "
            f"but it was given {image_channels}; convert the dataset with dataset_conversion/convert_brats.py."
        )
    return _look_up(modalities, DEFAULT_ORDER[image_channels], DEFAULT_ORDER[image_channels])


def channel_names(dataset_json: Mapping[str, Any], source: str = "dataset.json") -> dict[str, str]:
    """Names of a dataset's channels: index as text -> name; under nnU-Net's older key ``modality``, if that is there.

    Args:
        dataset_json: the dataset's description.
        source: the file that it was read from, for the message.

    Raises:
        ValueError: there are none.
    """
    named = dataset_json.get("modality", dataset_json.get("channel_names"))
    if not named:
        raise ValueError(f"{source} names no channels; give it channel_names.")
    return dict(named)


def resolve_channels(
    modalities: Sequence[str], channel_names: Mapping[str, str], source: str = "dataset.json"
) -> tuple[int, ...]:
    """Channel of each modality, by the names in a dataset.json.

    Args:
        modalities: canonical names (``t1``, ``t1ce``, ``t2``, ``flair``) in the order in which they are wanted.
        channel_names: see :func:`channel_names`.
        source: the file that they were read from, for the message.

    Raises:
        ValueError: unknown name, a modality twice, a missing modality, or a number of channels other than 4 or 2.
    """
    names = [channel_names[str(i)] for i in range(len(channel_names))]
    found = [modality_of(name) for name in names]
    known = [m for m in found if m is not None]
    if len(known) < len(names) or len(set(known)) < len(known) or len(names) not in DEFAULT_ORDER:
        raise ValueError(_complaint(modalities, names, source))
    return _look_up(modalities, known, names, source)


def _look_up(
    modalities: Sequence[str], known: Sequence[str], names: Sequence[str], source: str = "dataset.json"
) -> tuple[int, ...]:
    if not set(modalities) <= set(known):
        raise ValueError(_complaint(modalities, names, source))
    return tuple(known.index(m) for m in modalities)


def _complaint(modalities: Sequence[str], names: Sequence[str], source: str) -> str:
    legal = "; ".join(f"{m}: {', '.join(aliases)}" for m, aliases in ALIASES.items())
    return (
        f"This network reads the modalities {', '.join(modalities)} from a dataset with two or four channels, each "
        f"modality once, but the dataset's channels are {', '.join(map(repr, names))}; give channel_names in "
        f"{source} known names ({legal}) or choose a network whose modalities are there."
    )
