"""The tables of contributions, from the games of all cases: long form, one row a number."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan, nan

import pandas as pd

from nnunet_ext.explain.attention import agreement
from nnunet_ext.explain.contributions import NO_REFERENCE, Game
from nnunet_ext.explain.shapley import members

CONTRIBUTIONS_FILE, SUBSETS_FILE, AGREEMENT_FILE = "contributions.csv", "subsets.csv", "agreement.csv"
KEYS = ["case", "region", "value", "baseline"]
NOTHING = "none"
"""The empty subset, in the tables."""


@dataclass(frozen=True)
class CaseGames:
    """What was found of a case.

    Attributes:
        case: its name.
        games: one for each baseline, value function and region.
        attention: a weight for each modality of a network that has them; empty else.
    """

    case: str
    games: tuple[Game, ...]
    attention: tuple[float, ...] = ()


def contributions_table(found: Sequence[CaseGames], modalities: Sequence[str]) -> pd.DataFrame:
    """A row for each case, region, value function, baseline and modality.

    Columns: ``shapley``, in units of the value function; ``attention``, the network's own weight, where it has one;
    ``all`` and ``none``, what all and no modalities are worth, whose difference the contributions add up to; ``note``.
    """
    rows = []
    for of in found:
        for game in of.games:
            known = game.shapley() or (nan,) * len(modalities)
            ends = (game.worth[-1], game.worth[0]) if game.worth else (nan, nan)
            weights = of.attention or (nan,) * len(modalities)
            rows += [
                {**_keys(of.case, game), "modality": name, "shapley": phi, "attention": weight}
                | {"all": ends[0], "none": ends[1], "note": "" if game.worth else NO_REFERENCE}
                for name, phi, weight in zip(modalities, known, weights, strict=True)
            ]
    return pd.DataFrame(rows)


def subsets_table(found: Sequence[CaseGames], modalities: Sequence[str]) -> pd.DataFrame:
    """What every subset is worth, named like ``T1ce+FLAIR``: all that the contributions are computed from."""
    rows = [
        {**_keys(of.case, game), "subset": subset_name(number, modalities), "worth": worth}
        for of in found
        for game in of.games
        for number, worth in enumerate(game.worth)
    ]
    return pd.DataFrame(rows, columns=[*KEYS, "subset", "worth"])


def agreement_table(contributions: pd.DataFrame) -> pd.DataFrame:
    """Kendall's tau-b between the attention weights and the contributions, a row for each case and game."""
    known = contributions[contributions["note"] == ""]
    rows = [
        {**dict(zip(KEYS, keys, strict=True)), "kendall_tau_b": agreement(list(of["shapley"]), list(of["attention"]))}
        for keys, of in known.groupby(KEYS, sort=False)
    ]
    return pd.DataFrame(rows, columns=[*KEYS, "kendall_tau_b"])


def subset_name(coalition: int, modalities: Sequence[str]) -> str:
    """The modalities of a subset, joined by +."""
    return "+".join(modalities[i] for i in members(coalition, len(modalities))) or NOTHING


def means(contributions: pd.DataFrame) -> pd.DataFrame:
    """Mean contribution over the cases whose reference has the region, and how many they are."""
    grouped = contributions.groupby([*KEYS[1:], "modality"], sort=False)["shapley"]
    return grouped.agg(["mean", "count"]).reset_index()


def as_plain(of: CaseGames) -> Mapping[str, object]:
    """For JSON; a float survives it to the last bit."""
    games = [{"region": g.region, "value": g.value, "baseline": g.baseline, "worth": list(g.worth)} for g in of.games]
    return {"games": games, "attention": [None if isnan(w) else w for w in of.attention]}


def from_plain(case: str, plain: Mapping[str, list]) -> CaseGames:
    """The inverse of :func:`as_plain`."""
    games = (Game(g["region"], g["value"], g["baseline"], tuple(g["worth"])) for g in plain["games"])
    return CaseGames(case, tuple(games), tuple(nan if w is None else w for w in plain["attention"]))


def _keys(case: str, game: Game) -> dict[str, str]:
    return {"case": case, "region": game.region, "value": game.value, "baseline": game.baseline}
