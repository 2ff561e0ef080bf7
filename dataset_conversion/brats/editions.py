"""The editions of BraTS as a table: names of cases and files, labels, quirks; and those that are refused by name.

Labels, ours (left as nnU-Net stores them): 1 necrotic and non-enhancing tumour core, 2 edema (from 2023 on:
surrounding non-enhancing FLAIR hyperintensity), 3 enhancing tumour, and 4 the resection cavity after treatment.
Sources: Menze 2015 (doi:10.1109/TMI.2014.2377694), Bakas 2018 (arXiv:1811.02629), Baid 2021 (arXiv:2107.02314), Adewole
2023 (Sub-Saharan Africa, arXiv:2305.19369), de Verdier 2024 (after treatment, arXiv:2405.18368).
"""

import re
from dataclasses import dataclass, field, replace

SEGMENTATION = "seg"
MODALITIES = ("T1", "T1ce", "T2", "FLAIR")
"""Names of the channels, in nnU-Net's order."""

NAMES_TO_2021 = ("t1", "t1ce", "t2", "flair", SEGMENTATION)
NAMES_FROM_2023 = ("t1n", "t1c", "t2w", "t2f", SEGMENTATION)
LABELS_TO_2021 = {0: 0, 1: 1, 2: 2, 4: 3}
LABELS_FROM_2023 = {0: 0, 1: 1, 2: 2, 3: 3}
LABELS_AFTER_TREATMENT = {**LABELS_FROM_2023, 4: 4}
CAVITY = 4
"""Our label of the resection cavity."""


@dataclass(frozen=True)
class Edition:
    """One edition.

    Attributes:
        name: also the default name of the dataset.
        case: regular expression of a case's name; its group ``patient`` is the same for all scans of a patient.
        kinds: endings of the files' names: T1, T1ce, T2, FLAIR, segmentation.
        separator: between the case's name and the ending.
        labels: the edition's label -> ours.
        doubt: what a label that is not the edition's may mean.
        aliases: file names in lower case, without ``.nii.gz``, that break the rule -> (case, kind).
        shared: what ``case`` is where the edition is asked for, if its names are those of another edition as well.
    """

    name: str
    case: str
    kinds: tuple[str, ...]
    separator: str
    labels: dict[int, int]
    doubt: str
    aliases: dict[str, tuple[str, str]] = field(default_factory=dict)
    shared: str = ""

    @property
    def ours(self) -> tuple[int, ...]:
        """Our labels that the edition has, without the background."""
        return tuple(sorted(set(self.labels.values()) - {0}))

    def parse(self, stem: str) -> tuple[str, str, str] | None:
        """Case, patient and kind (one of ``kinds``) of a file name without its ending; None if not the edition's."""
        if stem.lower() in self.aliases:
            case, kind = self.aliases[stem.lower()]
            stem = f"{case}{self.separator}{kind}"
        match = re.fullmatch(f"(?P<case>{self.case}){self.separator}(?P<kind>{'|'.join(self.kinds)})", stem, re.I)
        return (match["case"], match["patient"], match["kind"].lower()) if match else None

    def owns(self, case: str) -> bool:
        """Whether ``case`` is named as the edition names its cases."""
        return re.fullmatch(self.case, case, re.I) is not None

    def asked_for(self) -> "Edition":
        """The edition as it is where the user names it: it takes all names that it shares."""
        return replace(self, case=self.shared or self.case)


_A_3 = "a 3 is enhancing tumour where labels were converted before, and other tissue in BraTS 2012-2016"
_A_4 = (
    "a 4 is enhancing tumour up to BraTS 2021, and the resection cavity in BraTS 2024: for that set give "
    "--edition 2024-GLI"
)
_A_5 = "the set after treatment has 1 to 4"
GLIOMA = r"BraTS-GLI-(?P<patient>\d+)-\d+"

EDITIONS = (
    Edition("BraTS2017", r"Brats17_(?P<patient>.+)_\d+", NAMES_TO_2021, "_", LABELS_TO_2021, _A_3),
    Edition("BraTS2018", r"Brats18_(?P<patient>.+)_\d+", NAMES_TO_2021, "_", LABELS_TO_2021, _A_3),
    Edition("BraTS2019", r"BraTS19_(?P<patient>.+)_\d+", NAMES_TO_2021, "_", LABELS_TO_2021, _A_3),
    Edition(
        "BraTS2020", r"BraTS20_(?P<patient>(Training|Validation|Testing)_\d+)", NAMES_TO_2021, "_", LABELS_TO_2021,
        _A_3, {"w39_1998.09.19_segm": ("BraTS20_Training_355", SEGMENTATION)},
    ),
    Edition("BraTS2021", r"BraTS2021_(?P<patient>\d+)", NAMES_TO_2021, "_", LABELS_TO_2021, _A_3),
    Edition(
        "BraTS2023", r"BraTS-GLI-(?P<patient>\d+)-(?!1\d\d)\d+", NAMES_FROM_2023, "-", LABELS_FROM_2023, _A_4,
        shared=GLIOMA,
    ),
    Edition("BraTS2023-SSA", r"BraTS-SSA-(?P<patient>\d+)-\d+", NAMES_FROM_2023, "-", LABELS_FROM_2023, _A_4),
    Edition(
        "BraTS2024-GLI", r"BraTS-GLI-(?P<patient>\d+)-1\d\d", NAMES_FROM_2023, "-", LABELS_AFTER_TREATMENT, _A_5,
        shared=GLIOMA,
    ),
)  # fmt: skip

# other tasks, other labels or other files; the group ``task`` is part of what they are called
UNSUPPORTED = (
    ("BraTS-{task}", r"BraTS-(?P<task>MEN-RT|MEN|MET|PED|GoAT)-[a-z-]*\d.*"),
    ("FeTS", r"(?P<task>FeTS)\d{2,4}_.*"),
    ("BraTS 2012-2016", r"(?P<task>brats_(2013|tcia)_|BRATS_(HG|LG|Sim)|Brats1[2-6]_|VSD\.Brain).*"),
)
NEIGHBOURS = (
    "BraTS 2023 and BraTS 2024 name glioma cases alike. A scan's number (the last one) is 100 or more in the set after "
    "treatment of 2024, so this was taken for {}; --edition 2023 or --edition 2024-GLI decides otherwise."
)


def edition_named(name: str) -> Edition:
    """Find the edition ``name``, such as BraTS2018 or 2018; ValueError names the known ones."""
    for edition in EDITIONS:
        if name.lower() in (edition.name.lower(), edition.name.lower().removeprefix("brats")):
            return edition
    raise ValueError(f"The edition {name!r} is unknown; give one of {supported()}.")


def supported() -> str:
    """Names of the editions, for a sentence."""
    return ", ".join(edition.name for edition in EDITIONS)


def unsupported(name: str) -> str | None:
    """What the set is called whose files or folders are named like ``name``, if it is one that is not converted."""
    for title, pattern in UNSUPPORTED:
        match = re.fullmatch(pattern, name, re.I)
        if match:
            return title.format(task=match["task"])
    return None
