"""What a conversion tells: what was found, what is wrong, what may surprise."""

from collections import Counter
from collections.abc import Mapping, Sequence

from dataset_conversion.brats.across import other_grids
from dataset_conversion.brats.discovery import Case, Tree
from dataset_conversion.brats.editions import NEIGHBOURS
from dataset_conversion.brats.output import say
from dataset_conversion.brats.problem import Problem
from dataset_conversion.brats.record import Report
from dataset_conversion.brats.survival import is_of_survival


def tell_found(tree: Tree, file_ending: str) -> None:
    """Say what the source holds, and what in it is not converted."""
    cases = tree.cases.values()
    grades = Counter(case.grade for case in cases if case.grade)
    shown = f" ({', '.join(f'{number} {grade}' for grade, number in sorted(grades.items()))})" if grades else ""
    patients = len({case.patient for case in cases})
    kind = "" if tree.labelled else " without segmentation"
    say(f"{tree.edition.name}: {len(cases)} cases{kind} of {patients} patients{shown}")
    if tree.edition.shared:
        say(NEIGHBOURS.format(tree.edition.name))
    _tell_tables(tree)
    for archive in tree.archives:
        say(f"{archive} is an archive and was not opened.")
    if tree.strays:
        number, first = len(tree.strays), tree.strays[0].name
        say(f"{number} NIfTI files, such as {first}, are not named as BraTS names them and are left out.")
    if len(tree.endings) > 1:
        say(f"The tree mixes .nii and .nii.gz; all files become {file_ending}.")


def _tell_tables(tree: Tree) -> None:
    """Say which tables were read in vain, and which hold what is not converted."""
    for table in tree.tables:
        number = table.names(tree.cases)
        if is_of_survival(table):
            say(f"{table.path} has survival, age or resection of {number} of {len(tree.cases)} cases.")
        elif not table.is_of_grades:
            say(f"{table.path} has rows of {number} of {len(tree.cases)} cases and stays where it is.")
        elif not table.grades().keys() & {name.lower() for name in tree.cases}:
            say(f"No grades found in {table.path} ({number} of {len(tree.cases)} cases have a row there).")


def tell_problems(problems: Sequence[Problem]) -> None:
    """List problems."""
    say(f"{len(problems)} problems in {len({problem.case for problem in problems})} cases:")
    for problem in problems:
        say(f"  {problem}")


def tell_warnings(good: Mapping[str, Case], reports: Mapping[str, Report]) -> None:
    """Tell what is converted and may surprise: once for each kind, with an example."""
    warnings = [warning for name in good for warning in reports[name].warnings]
    for text, number in Counter(warning.text for warning in warnings).items():
        example = next(warning for warning in warnings if warning.text == text)
        say(f"Warning: {number} files {text}, such as {example.file}; {example.remedy}.")
    for line in other_grids(reports, good):
        say(line)
