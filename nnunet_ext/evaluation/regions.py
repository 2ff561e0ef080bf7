"""What the labels of a file mean: the editions of BraTS as a table, other datasets by their dataset.json.

Sources: Menze 2015 (doi:10.1109/TMI.2014.2377694), Baid 2021 (arXiv:2107.02314), the organisers' script of 2023
(github.com/rachitsaluja/BraTS-2023-Metrics), de Verdier 2024 (arXiv:2405.18368); ``nnunet137`` is nnU-Net's
Dataset137_BraTS2021.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

NCR, ED, ET, RC = 1, 2, 3, 4
BYTES = 256
BRATS_CLASSES = ("NCR", "ED", "ET", "RC")
BRATS_REGIONS = {"WT": (NCR, ED, ET), "TC": (NCR, ET), "ET": (ET,)}


@dataclass(frozen=True)
class Scheme:
    """Labels of files, and what is evaluated.

    Attributes:
        name: of the edition or dataset.
        labels: of the file -> number of the class, from 1; 0 is background and not listed.
        classes: names, the first has number 1.
        regions: name -> numbers of its classes; includes each class that is no region already.
        ignore: label whose voxels count for nothing, or None.
    """

    name: str
    labels: Mapping[int, int]
    classes: tuple[str, ...]
    regions: Mapping[str, tuple[int, ...]]
    ignore: int | None = None

    @property
    def brats(self) -> bool:
        """Whether its classes are those of BraTS."""
        return self.classes[:3] == BRATS_CLASSES[:3]

    def foreign(self, labels: Iterable[int]) -> list[int]:
        """Which of these labels it does not have."""
        return sorted(set(labels) - {0, *self.labels, *([] if self.ignore is None else [self.ignore])})

    def classes_of(self, volume: NDArray[np.integer]) -> NDArray[np.uint8]:
        """The numbers of the classes in place of the file's labels; what is ignored is background."""
        table = np.zeros(max(int(max([volume.max(initial=0), *self.labels])) + 1, BYTES), np.uint8)
        for label, number in self.labels.items():
            table[label] = number
        if len(table) > BYTES:
            return table[volume]
        small = volume.astype(np.uint8).tobytes().translate(table.tobytes())  # a fraction of the time of indexing
        return np.frombuffer(small, np.uint8).reshape(volume.shape)


def _brats(name: str, labels: Mapping[int, int]) -> Scheme:
    classes = BRATS_CLASSES[: max(labels.values())]
    rest = {c: (i,) for i, c in enumerate(classes, 1) if c not in BRATS_REGIONS}
    return Scheme(name, labels, classes, {**BRATS_REGIONS, **rest})


_TO_2021 = {1: NCR, 2: ED, 4: ET}
EDITIONS = {
    **{year: _brats(year, _TO_2021) for year in ("2017", "2018", "2019", "2020", "2021")},
    "2023": _brats("2023", {1: NCR, 2: ED, 3: ET}),
    "2024": _brats("2024", {1: NCR, 2: ED, 3: ET, 4: RC}),
    "nnunet137": _brats("nnunet137", {1: ED, 2: NCR, 3: ET}),
}
NAMES = {
    r"Brats17_.+": "2017",
    r"Brats18_.+": "2018",
    r"BraTS19_.+": "2019",
    r"BraTS20_.+": "2020",
    r"BraTS2021_\d+": "2021",
    r"BraTS-(GLI|SSA)-\d+-\d+": "2023",
}
"""How the editions name their cases; data converted for nnU-Net keep the names and not always the labels."""

KEYWORDS = {
    ET: r"^et$|enhanc",
    ED: r"^ed$|edema|oedema|snfh",
    NCR: r"^ncr$|necro|^netc$|non.?enhanc",
    RC: r"^rc$|resect",
}


def edition_named(name: str) -> Scheme:
    """The edition of that name, such as 2018 or BraTS2018; ValueError names the known ones."""
    short = name.lower().removeprefix("brats")
    if short not in EDITIONS:
        raise ValueError(f"The edition {name!r} is unknown; give one of {', '.join(EDITIONS)}.")
    return EDITIONS[short]


def scheme_of_dataset(dataset: Mapping[str, Any]) -> Scheme:
    """What a dataset.json of nnU-Net says about its labels.

    Raises:
        ValueError: it has no labels.
    """
    given = dataset.get("labels")
    if not isinstance(given, Mapping) or not given:
        raise ValueError("A dataset.json without 'labels' does not tell what is evaluated; give --edition.")
    ignore = given.get("ignore")
    groups = {str(name): _numbers(value) for name, value in given.items() if name != "ignore"}
    groups = {name: numbers for name, numbers in groups.items() if numbers != (0,)}
    edition = _brats_by_sets(groups) or _brats_by_names(groups)
    return replace(edition, ignore=ignore) if edition else _other(dataset, groups, ignore)


def _numbers(value: Any) -> tuple[int, ...]:
    return tuple(sorted({int(v) for v in value})) if isinstance(value, list | tuple) else (int(value),)


def _brats_by_sets(groups: Mapping[str, tuple[int, ...]]) -> Scheme | None:
    """The edition whose regions are exactly these."""
    sets = set(groups.values())
    for scheme in EDITIONS.values():
        back = {number: label for label, number in scheme.labels.items()}
        regions = {tuple(sorted(back[c] for c in region)) for region in BRATS_REGIONS.values()}
        if sets == regions | {(back[c],) for c in back if c == RC}:  # the cavity is a region of its own
            return scheme
    return None


def _brats_by_names(groups: Mapping[str, tuple[int, ...]]) -> Scheme | None:
    """The edition in which labels of these names have these numbers."""
    found: dict[int, int] = {}
    for name, numbers in groups.items():
        # "non-enhancing tumor core" holds "enhanc": the more special names are asked first
        number = next((c for c in (NCR, ED, RC, ET) if re.search(KEYWORDS[c], name, re.IGNORECASE)), None)
        if number is None or len(numbers) != 1:
            return None
        found[numbers[0]] = number
    return next((scheme for scheme in EDITIONS.values() if dict(scheme.labels) == found), None)


def _other(dataset: Mapping[str, Any], groups: Mapping[str, tuple[int, ...]], ignore: int | None) -> Scheme:
    labels = sorted({label for group in groups.values() for label in group} - {0})
    numbers = {label: index for index, label in enumerate(labels, 1)}
    alone = {group[0]: name for name, group in groups.items() if len(group) == 1}
    classes = tuple(alone.get(label, f"label {label}") for label in labels)
    regions = {name: tuple(numbers[label] for label in group if label) for name, group in groups.items()}
    rest = {name: (index,) for index, name in enumerate(classes, 1) if name not in regions}
    return Scheme(str(dataset.get("name", "dataset.json")), numbers, classes, {**regions, **rest}, ignore)


def detect(labels: Iterable[int], cases: Iterable[str]) -> Scheme:
    """The edition to which files with these labels and cases with these names belong.

    Raises:
        ValueError: several do; the sentence says which, and that ``--edition`` decides.
    """
    found = set(labels) - {0}
    names = {year for case in cases for pattern, year in NAMES.items() if re.fullmatch(pattern, case, re.IGNORECASE)}
    if names == {"2023"} and found <= {1, 2, 3, 4}:
        return EDITIONS["2024" if 4 in found else "2023"]
    if 4 in found and found <= {1, 2, 4}:
        return EDITIONS[next(iter(names - {"2023"})) if len(names - {"2023"}) == 1 else "2021"]
    shown = ", ".join(map(str, sorted(found))) or "no label but 0"
    if {3, 4} <= found:
        raise ValueError(
            f"The files have the labels {shown}: enhancing tumour is 4 up to BraTS 2021 and 3 from 2023 on, where 4 is"
            " the resection cavity of 2024; give --edition, or take files of one edition."
        )
    raise ValueError(
        f"The files have the labels {shown}, which may be BraTS 2023's and this package's datasets' (1 necrosis,"
        " 2 edema, 3 enhancing) or those of nnU-Net's Dataset137 (1 edema, 2 necrosis): give --edition 2023 or"
        " nnunet137, or the dataset.json with --dataset-json."
    )
