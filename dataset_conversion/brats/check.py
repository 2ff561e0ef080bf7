"""What the names of a case's files alone tell, before one of them is opened."""

from dataset_conversion.brats.discovery import Case, Tree
from dataset_conversion.brats.editions import SEGMENTATION
from dataset_conversion.brats.problem import Problem


def check_files(case: Case, tree: Tree) -> list[Problem]:
    """Find a file that is missing, a file that is there twice, a case in two places, a name that is no text."""
    folders = sorted({str(file.parent) for files in case.files.values() for file in files})
    doubled = [kind for kind, files in case.files.items() if len(files) > 1]
    apart = sorted({str(file.parent) for kind in doubled for file in case.files[kind]})
    if len(apart) > 1:
        return [Problem(f"is there twice: {' and '.join(apart)}", "remove one of the folders", case.name)]
    problems = [
        Problem(f"is there twice: {' and '.join(file.name for file in case.files[kind])}", "keep one", case.name, kind)
        for kind in doubled
    ]
    if not case.name.isprintable() or any("\udc80" <= letter <= "\udcff" for letter in case.name):
        problems.append(Problem("has a name that is no text", "rename its files", case.name))
    problems += [
        _missing(case, tree, kind, folders[0] if folders else "the tree")
        for kind in tree.kinds
        if kind not in case.files
    ]
    return problems


def _missing(case: Case, tree: Tree, kind: str, folder: str) -> Problem:
    if kind in case.hints:
        return Problem(f"is missing: {case.hints[kind]}", "download or unpack it again", case.name, kind)
    remedy = f"add {case.name}{tree.edition.separator}{kind}.nii.gz to {folder}"
    if kind == SEGMENTATION:
        remedy = "convert training and validation sets apart, or " + remedy
    return Problem("is missing", remedy, case.name, kind)
