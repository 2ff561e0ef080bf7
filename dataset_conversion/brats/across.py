"""What only a comparison of cases shows: a scan that is there twice, a case in another grid than the rest."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace

from dataset_conversion.brats.discovery import Case
from dataset_conversion.brats.problem import Problem
from dataset_conversion.brats.record import Report

REMEDY = "download the right one, or convert both with --allow-duplicates"


def find_duplicates(reports: Mapping[str, Report]) -> list[Problem]:
    """Find images with the same voxels: all of a case (the later names are refused), or one (both are).

    Segmentations are not compared: those without tumour are alike.
    """
    first: dict[tuple[tuple[str, str], ...], str] = {}
    problems = []
    copies = set()
    for case in sorted(reports):
        scan = tuple(sorted(reports[case].scans.items()))
        original = first.setdefault(scan, case)
        if scan and original != case:
            copies.add(case)
            problems.append(Problem(f"is the same scan as {original}", REMEDY, case))
    return problems + _single_images({case: report for case, report in reports.items() if case not in copies})


def _single_images(reports: Mapping[str, Report]) -> list[Problem]:
    places: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for case, report in reports.items():
        for kind, digest in report.scans.items():
            places[digest].append((case, kind))
    problems = []
    for shared in (shared for shared in places.values() if len(shared) > 1):
        for case, kind in shared if len({case for case, _ in shared}) > 1 else shared[1:]:
            other = next(place for place in shared if place != (case, kind))
            where = f"the case's {other[1]}" if other[0] == case else f"{other[1]} of {other[0]}"
            problems.append(Problem(f"has the same voxels as {where}", REMEDY, case, kind))
    return problems


def with_shared_patients(cases: Mapping[str, Case], reports: Mapping[str, Report]) -> dict[str, Case]:
    """Make one patient of those who share an image, so that a copy never lies on the other side of a split."""
    leader: dict[str, str] = {case.patient: case.patient for case in cases.values()}

    def head(patient: str) -> str:
        while leader[patient] != patient:
            patient = leader[patient]
        return patient

    owner: dict[str, str] = {}
    for name, case in cases.items():
        for digest in reports[name].scans.values():
            pair = sorted((head(owner.setdefault(digest, case.patient)), head(case.patient)))
            leader[pair[1]] = pair[0]
    return {name: replace(case, patient=head(case.patient)) for name, case in cases.items()}


def other_grids(reports: Mapping[str, Report], cases: Iterable[str]) -> list[str]:
    """Lines about cases in another voxel order or spacing than most."""
    grids = {case: reports[case].grid for case in cases if reports[case].grid}
    counts = Counter(grids.values())
    if len(counts) < 2:
        return []
    usual = counts.most_common(1)[0][0]
    others = {case: grid for case, grid in grids.items() if grid != usual}
    return [
        f"{len(others)} of {len(grids)} cases have another voxel order or spacing than the others ({usual}), which "
        f"nnU-Net does not turn:",
        *(f"  {case}: {grid}" for case, grid in others.items()),
    ]
