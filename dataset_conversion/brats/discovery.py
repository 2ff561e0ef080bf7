"""Finding the cases of a BraTS tree by the names of its files, wherever they lie below the source folder."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dataset_conversion.brats.editions import EDITIONS, SEGMENTATION, Edition, edition_named, supported, unsupported
from dataset_conversion.brats.listing import Listing, ending_of, list_tree, stem_of, unfinished
from dataset_conversion.brats.problem import Problem
from dataset_conversion.brats.tables import GRADE_TABLE, GRADES, Table, read_table

TABLES = (GRADE_TABLE, "survival")
"""What the names of the tables begin with that come with BraTS."""


@dataclass
class Case:
    """One scan of one patient.

    ``files`` holds the files found of each kind (the edition's names); a sound case has one of each. ``grade`` is HGG,
    LGG or empty where it is unknown. ``hints`` holds what is there in place of a kind's file.
    """

    name: str
    patient: str
    grade: str
    files: dict[str, list[Path]] = field(default_factory=dict)
    hints: dict[str, str] = field(default_factory=dict)

    @property
    def labelled(self) -> bool:
        """Whether it has a segmentation, or something in its place."""
        return SEGMENTATION in self.files or SEGMENTATION in self.hints


@dataclass(frozen=True)
class Tree:
    """What a source folder holds.

    One edition, its cases by name, the NIfTI files that belong to none, folders and archives that should have been
    cases, and the tables of grades and survival.
    """

    edition: Edition
    cases: dict[str, Case]
    strays: list[Path]
    troubles: list[Problem] = field(default_factory=list)
    archives: list[Path] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)

    @property
    def labelled(self) -> bool:
        """Whether it is a training set: one case with a segmentation makes the others incomplete."""
        return any(case.labelled for case in self.cases.values())

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of files that each case must have."""
        return self.edition.kinds if self.labelled else self.edition.kinds[:-1]

    @property
    def endings(self) -> set[str]:
        """Endings of the files' names."""
        return {ending_of(file) for case in self.cases.values() for files in case.files.values() for file in files}


class TreeError(Exception):
    """The source as a whole cannot be converted; the message says why and what to do."""


def _grade(file: Path, case: str, grades: dict[str, str]) -> str:
    folders = [part.upper() for part in file.parts if part.upper() in GRADES]
    return folders[-1] if folders else grades.get(case.lower(), "")


def _same(parsed: tuple[Edition, tuple[str, str, str]]) -> tuple[str, str]:
    """Case and kind, whatever the capitals."""
    return parsed[1][0].lower(), parsed[1][2]


class _Finder:
    """Sorts what a tree lists into cases, strays and troubles."""

    def __init__(self, listing: Listing, editions: tuple[Edition, ...]) -> None:
        self.listing, self.editions = listing, editions
        self.tables = [
            read_table(file)
            for file in listing.files
            if file.suffix.lower() == ".csv" and file.name.lower().startswith(TABLES)
        ]
        self.grades = {case: grade for table in self.tables for case, grade in table.grades().items()}
        self.found: dict[str, dict[str, Case]] = {edition.name: {} for edition in editions}
        self.strays: list[Path] = []
        self.troubles: list[Problem] = []

    def parse(self, stem: str) -> tuple[Edition, tuple[str, str, str]] | None:
        """Edition, and case, patient and kind, of a name without its ending."""
        return next(((e, p) for e in self.editions if (p := e.parse(stem))), None)

    def case(self, edition: Edition, name: str, patient: str, place: Path) -> Case:
        """The case of this name, which is made if it is new."""
        return self.found[edition.name].setdefault(name, Case(name, patient, _grade(place, name, self.grades)))

    def take(self, file: Path) -> None:
        """Give a NIfTI file to the case that its name tells, or else its folder's name."""
        own, folder = self.parse(stem_of(file.name)), self.parse(stem_of(file.parent.name))
        if own and folder and _same(own) != _same(folder):
            remedy = "find out which name is right and rename the other"
            text = f"lies in {file.parent.name}, which is named for another image"
            self.troubles.append(Problem(text, remedy, own[1][0], file.name))
            return
        parsed = own or folder
        if parsed is None:
            self.strays.append(file)
            return
        edition, (name, patient, kind) = parsed
        self.case(edition, name, patient, file).files.setdefault(kind, []).append(file)

    def all_cases(self) -> Iterator[tuple[str, Case]]:
        """Names in lower case, and cases, of all editions."""
        return ((name.lower(), case) for cases in self.found.values() for name, case in cases.items())

    def hint(self, path: Path, parsed: tuple[Edition, tuple[str, str, str]], text: str) -> None:
        """Note what is there in place of a file, unless the file is there as well."""
        edition, (name, patient, kind) = parsed
        case = self.case(edition, name, patient, path)
        if kind not in case.files:
            case.hints[kind] = text

    def look_for_substitutes(self) -> None:
        """Find folders and unfinished downloads in place of files."""
        for folder in self.listing.folders:
            parsed = self.parse(stem_of(folder.name))
            if parsed:
                self.hint(folder, parsed, f"{folder} is a folder without a NIfTI file")
        for file in self.listing.files:
            parsed = self.parse(stem_of(name)) if (name := unfinished(file.name)) else None
            if parsed:
                self.hint(file, parsed, f"{file.name} is an unfinished download")

    def look_for_lost_cases(self) -> None:
        """Find what is named like a case and yields none: folders, archives, unfinished downloads, dangling links."""
        known = {name for name, _ in self.all_cases()}
        named = [(path, path.name, "has no file that is named as BraTS names them") for path in self.listing.folders]
        named += [(path, stem_of(path.name), "is not unpacked") for path in self.listing.archives]
        named += [(path, unfinished(path.name) or path.name, "is no folder") for path in self.listing.files]
        for path, name, text in named:
            if name.lower() not in known and any(edition.owns(name) for edition in self.editions):
                what = _content(path) if path.is_dir() else f"{path} {text}"
                self.troubles.append(Problem(what, "unpack, download or name its files again, or take it out", name))
        for error in self.listing.unreadable:
            place = Path(str(error.filename))
            text = f"{place} cannot be read ({error.strerror})"
            self.troubles.append(Problem(text, "give yourself the right to read it", place.name))


def _content(folder: Path) -> str:
    """Say what is in a case's folder in place of its files."""
    names = sorted(path.name for path in folder.iterdir())
    if not names:
        return f"{folder} is empty"
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return f"{folder} has no file that is named as BraTS names the files of this case, but {shown}"


def find_cases(source: Path, edition: str | None = None) -> Tree:
    """Find the cases below ``source`` (an absolute path); ``edition`` decides between editions that share names.

    Raises:
        TreeError: if there is no case, or if the cases are of several editions or of one that is not converted.
        ValueError: if ``edition`` is unknown.
    """
    asked = edition_named(edition).asked_for() if edition else None
    editions = (asked, *(e for e in EDITIONS if e.name != asked.name)) if asked else EDITIONS
    listing = list_tree(source)
    finder = _Finder(listing, editions)
    for file in filter(ending_of, listing.files):
        if not file.name.startswith("._"):  # macOS leaves such a shadow of each file
            finder.take(file)
    _refuse_unsupported(listing)
    finder.look_for_substitutes()
    finder.look_for_lost_cases()
    return _only_edition(source, finder, asked)


def _refuse_unsupported(listing: Listing) -> None:
    images = [file for file in listing.files if ending_of(file) or file.suffix.lower() == ".mha"]
    for path in [*listing.folders, *images]:
        name = unsupported(path.name)
        if name:
            raise TreeError(f"{name} is not supported; supported are {supported()}. Found: {path}.")


def _only_edition(source: Path, finder: _Finder, asked: Edition | None) -> Tree:
    """The tree, if all cases are of one edition, and of that which was ``asked`` for."""
    present = [edition for edition in finder.editions if finder.found[edition.name]]
    if not present:
        raise TreeError(_nothing(source, finder))
    if len(present) > 1 or (asked and present != [asked]):
        counts = ", ".join(f"{edition.name} ({len(finder.found[edition.name])} cases)" for edition in present)
        wanted = f"--edition asks for {asked.name}" if asked else "Several editions"
        raise TreeError(f"{wanted}; below {source} are: {counts}. Convert each into a dataset of its own.")
    cases = dict(sorted(finder.found[present[0].name].items()))
    return Tree(present[0], cases, finder.strays, finder.troubles, finder.listing.archives, finder.tables)


def _nothing(source: Path, finder: _Finder) -> str:
    """Say that there is no case, and what there is."""
    example = f" {finder.strays[0].name} is not." if finder.strays else ""
    lost = "".join(f" {trouble}." for trouble in finder.troubles[:3])
    packed = "".join(f" {path.name} is not unpacked." for path in finder.listing.archives[:3])
    return (
        f"No case of a known edition below {source}: files are named like Brats18_..._t1ce.nii.gz, "
        f"BraTS2021_00000_t1ce.nii.gz or BraTS-GLI-00000-000-t1c.nii.gz.{example}{lost}{packed} "
        f"Give the folder of a BraTS set."
    )
