"""The editions of BraTS as a table: names of cases and files, labels, quirks.

Labels, ours (left as nnU-Net stores them): 1 necrotic and non-enhancing tumour core, 2 edema, 3 enhancing tumour.
Sources: Menze 2015 (doi:10.1109/TMI.2014.2377694), Bakas 2018 (arXiv:1811.02629), Baid 2021 (arXiv:2107.02314).
"""

import re
from dataclasses import dataclass, field

SEGMENTATION = "seg"
MODALITIES = ("T1", "T1ce", "T2", "FLAIR")
"""Names of the channels, in nnU-Net's order."""

NAMES_TO_2021 = ("t1", "t1ce", "t2", "flair", SEGMENTATION)
NAMES_FROM_2023 = ("t1n", "t1c", "t2w", "t2f", SEGMENTATION)
LABELS_TO_2021 = {0: 0, 1: 1, 2: 2, 4: 3}
LABELS_FROM_2023 = {0: 0, 1: 1, 2: 2, 3: 3}


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
        aliases: file names, without ``.nii.gz``, that break the rule -> (case, kind).
    """

    name: str
    case: str
    kinds: tuple[str, ...]
    separator: str
    labels: dict[int, int]
    doubt: str
    aliases: dict[str, tuple[str, str]] = field(default_factory=dict)

    def parse(self, stem: str) -> tuple[str, str, str] | None:
        """Case, patient and kind (one of ``kinds``) of a file name without its ending; None if not the edition's."""
        if stem in self.aliases:
            case, kind = self.aliases[stem]
            stem = f"{case}{self.separator}{kind}"
        match = re.fullmatch(f"(?P<case>{self.case}){self.separator}(?P<kind>{'|'.join(self.kinds)})", stem, re.I)
        return (match["case"], match["patient"], match["kind"].lower()) if match else None

    def owns(self, case: str) -> bool:
        """Whether ``case`` is named as the edition names its cases."""
        return re.fullmatch(self.case, case, re.I) is not None


_A_3 = "a 3 is enhancing tumour where labels were converted before, and other tissue in BraTS 2012-2015"
_A_4 = "a 4 is enhancing tumour up to BraTS 2021 and the resection cavity in BraTS 2024"

EDITIONS = (
    Edition("BraTS2018", r"Brats18_(?P<patient>.+)_\d+", NAMES_TO_2021, "_", LABELS_TO_2021, _A_3),
    Edition("BraTS2019", r"BraTS19_(?P<patient>.+)_\d+", NAMES_TO_2021, "_", LABELS_TO_2021, _A_3),
    Edition(
        "BraTS2020", r"BraTS20_(?P<patient>(Training|Validation|Testing)_\d+)", NAMES_TO_2021, "_", LABELS_TO_2021,
        _A_3, {"W39_1998.09.19_Segm": ("BraTS20_Training_355", SEGMENTATION)},
    ),
    Edition("BraTS2021", r"BraTS2021_(?P<patient>\d+)", NAMES_TO_2021, "_", LABELS_TO_2021, _A_3),
    Edition("BraTS2023", r"BraTS-GLI-(?P<patient>\d+)-\d+", NAMES_FROM_2023, "-", LABELS_FROM_2023, _A_4),
)  # fmt: skip


def edition_named(name: str) -> Edition:
    """Find the edition ``name``, such as BraTS2018 or 2018; ValueError names the known ones."""
    for edition in EDITIONS:
        if name.lower() in (edition.name.lower(), edition.name.lower().removeprefix("brats")):
            return edition
    raise ValueError(f"The edition {name!r} is unknown; give one of {', '.join(e.name for e in EDITIONS)}.")
