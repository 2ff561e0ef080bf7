"""Folds of cases: no patient on two sides, each fold with its share of the target; and what such a fold can show.

The division is scikit-learn's StratifiedGroupKFold, which nnU-Net brings along.
"""

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import LeaveOneGroupOut, StratifiedGroupKFold

from nnunet_ext.outcomes.columns import SURVIVAL, Column
from nnunet_ext.outcomes.targets import Targets

FOLDS = 5
SEED = 12345
"""nnU-Net's, of its own splits."""
MOST_BINS = 5
"""Quantiles of a number that folds get equal shares of."""
PARTS = ("train", "val")
Split = dict[str, list[str]]


def make_splits(targets: Targets, folds: int = FOLDS, seed: int = SEED) -> list[Split]:
    """Divide the training cases, the same way whatever the order of the rows.

    With fewer patients than folds each patient is left out once.

    Args:
        targets: with the groups and the target that is stratified.
        folds: at least 2.
        seed: of the order in which equal patients are dealt out.

    Raises:
        ValueError: fewer than two folds, or all cases are of one patient.
    """
    if folds < 2:
        raise ValueError(f"{folds} folds were asked for; give at least 2.")
    cases = np.array(sorted(targets.training_cases))
    groups = [targets.groups[case] for case in cases]
    patients = len(set(groups))
    if patients < 2:
        raise ValueError(f"All {len(cases)} cases are of one patient, so no fold can be made; train with fold all.")
    labels = strata(targets, cases.tolist(), folds)
    most = np.unique(labels, return_counts=True)[1].max()
    if most < folds:  # no stratum has one for each fold
        labels = np.zeros(len(cases), int)
    divided = (
        LeaveOneGroupOut()
        if patients < folds
        else StratifiedGroupKFold(min(folds, patients), shuffle=True, random_state=seed)
    )
    with warnings.catch_warnings():  # of rare levels, which are told by what_a_fold_lacks
        warnings.simplefilter("ignore", UserWarning)
        parts = list(divided.split(cases, labels, groups))
    return [dict(zip(PARTS, (cases[part].tolist() for part in both), strict=True)) for both in parts]


def strata(targets: Targets, cases: Sequence[str], folds: int = FOLDS) -> NDArray[np.int64]:
    """The stratum of each case, (N,): its level, or its quantile among the known numbers; -1 where it is not known.

    Censored times are strata of their own.
    """
    column = targets.schema.column(targets.schema.stratify)
    values = targets.values(column.name, cases)
    known = ~np.isnan(values)
    found = np.full(len(cases), -1, np.int64)
    if column.is_discrete:
        found[known] = values[known].astype(np.int64)
        return found
    found[known] = _quantiles(values[known], folds)
    if column.kind == SURVIVAL:
        censored = known & ~np.array([targets.observed(column.name, case) for case in cases])
        found[censored] += MOST_BINS
    return found


def _quantiles(values: NDArray[np.float64], folds: int) -> NDArray[np.int64]:
    """Number of the quantile of each value; as many quantiles as leave one value for each fold in each."""
    bins = int(np.clip(len(values) // folds, 1, MOST_BINS))
    if bins == 1:
        return np.zeros(len(values), np.int64)
    edges = np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)[1:-1]))
    return np.searchsorted(edges, values, side="left").astype(np.int64)


def check_part(targets: Targets, column: str, cases: Sequence[str], name: str) -> None:
    """Refuse cases of which a target cannot be learnt, or with which it cannot be judged.

    Args:
        targets: of the dataset.
        column: the target.
        cases: such as those that a fold trains with.
        name: what to call them, such as "the training cases of fold 0".

    Raises:
        ValueError: the target is known of none, all have one class or one value, or all times are censored.
    """
    declared = targets.schema.column(column)
    known = targets.known(column, cases)
    reason = _what_is_wrong(targets, declared, known)
    if reason:
        raise ValueError(f"{column} in {name} ({len(known)} of {len(cases)} known): {reason}.")


def _what_is_wrong(targets: Targets, column: Column, known: Sequence[str]) -> str:
    """Why nothing can be learnt of the known cases; empty if it can."""
    if not known:
        return "no case has a value; fill cells, or take another target"
    different = np.unique(targets.values(column.name, known))
    if column.kind == SURVIVAL and not any(targets.observed(column.name, case) for case in known):
        return "all times are censored, so no event is known to order them by; add cases that were followed to the end"
    if len(different) == 1 and column.is_discrete:
        level = column.levels[int(different[0])]
        return f"all are {level}, and one class cannot be told from another; add cases or make fewer folds"
    if len(different) == 1 and column.kind != SURVIVAL:
        return f"all are {different[0]:g}, so there is nothing to tell apart; add cases or make fewer folds"
    return ""


def what_a_fold_lacks(targets: Targets, splits: Sequence[Split]) -> Iterator[tuple[str, str]]:
    """For each fold and target, what its cases cannot show.

    Yields:
        The part, ``train`` or ``val``, and the sentence. What ``train`` lacks makes a training useless, what ``val``
        lacks makes its metrics undefined.
    """
    named = {"train": "the training cases of fold {}", "val": "the validation cases of fold {}"}
    for fold, split in enumerate(splits):
        for part, name in named.items():
            for column in targets.columns.values():
                try:
                    check_part(targets, column.name, split[part], name.format(fold))
                except ValueError as error:  # told, with those of the other folds
                    yield part, str(error)
                    continue
                if absent := _absent(targets, column, split[part]):
                    yield part, f"{column.name} in {name.format(fold)}: no case is {', '.join(absent)}."


def _absent(targets: Targets, column: Column, cases: Sequence[str]) -> list[str]:
    """The levels that no case has."""
    present = {targets.row(case)[column.name] for case in cases}
    return [level for level in column.levels if level not in present]


def check_splits(targets: Targets, splits: Any, where: str) -> list[Split]:
    """The splits of a file of nnU-Net, if they name training cases only and part no patient.

    Args:
        targets: of the dataset.
        splits: what the file holds.
        where: what to call it in messages.

    Raises:
        ValueError: they do not; with the fold, and the case or the patient's cases.
    """
    if not isinstance(splits, list) or not splits or not all(map(_is_split, splits)):
        raise ValueError(f'{where} is no list of {{"train": [cases], "val": [cases]}}; mend it, or give --new-splits.')
    training = set(targets.training_cases)
    for fold, split in enumerate(splits):
        _check_once(split, f"{where}, fold {fold}")
        strange = sorted({*split["train"], *split["val"]} - training)
        if strange:
            raise ValueError(
                f"{where}, fold {fold} has the case {strange[0]}, which is no training case; mend it, or give "
                "--new-splits."
            )
        trained = {targets.groups[case]: case for case in split["train"]}
        leak = next((case for case in split["val"] if targets.groups[case] in trained), None)
        if leak is not None:
            raise ValueError(
                f"{where}, fold {fold} validates with {leak} and trains with {trained[targets.groups[leak]]}, which "
                "are of one patient; give --new-splits."
            )
    return splits


def _check_once(split: Split, where: str) -> None:
    """Refuses a part without a case, or with one twice."""
    for part, cases in split.items():
        if not cases:
            raise ValueError(f"{where} has no case in {part!r}; mend it, or give --new-splits.")
        twice = next((case for case in cases if cases.count(case) > 1), None)
        if twice is not None:
            raise ValueError(f"{where} has the case {twice} more than once in {part!r}; mend it, or give --new-splits.")


def _is_split(split: Any) -> bool:
    lists = [split.get(part) for part in PARTS] if isinstance(split, dict) else [None]
    return all(isinstance(cases, list) and all(isinstance(case, str) for case in cases) for cases in lists)
