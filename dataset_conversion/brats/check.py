"""What the names of a case's files alone tell, before one of them is opened."""

from dataset_conversion.brats.discovery import Case, Tree
from dataset_conversion.brats.editions import SEGMENTATION
from dataset_conversion.brats.record import Problem


def check_files(case: Case, tree: Tree) -> list[Problem]:
    """Find a file that is missing, a file that is there twice, a case in two places."""
    folders = sorted({str(file.parent) for files in case.files.values() for file in files})
    doubled = [kind for kind, files in case.files.items() if len(files) > 1]
    if len(folders) > 1 and doubled:
        return [Problem(f"is there twice: {' and '.join(folders)}", "remove one of the folders", case.name)]
    problems = [
        Problem(f"is there twice: {' and '.join(file.name for file in case.files[kind])}", "keep one", case.name, kind)
        for kind in doubled
    ]
    for kind in (kind for kind in tree.kinds if kind not in case.files):
        remedy = f"add {case.name}{tree.edition.separator}{kind}.nii.gz to {folders[0]}"
        if kind == SEGMENTATION:
            remedy = "convert training and validation sets apart, or " + remedy
        problems.append(Problem("is missing", remedy, case.name, kind))
    return problems
