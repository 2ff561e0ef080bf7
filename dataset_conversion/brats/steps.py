"""What has to be written for a case, one step for each file, and which steps are done already."""

from pathlib import Path
from typing import NamedTuple

from dataset_conversion.brats.dataset import Options
from dataset_conversion.brats.discovery import Case
from dataset_conversion.brats.editions import SEGMENTATION, Edition
from dataset_conversion.brats.files import is_same
from dataset_conversion.brats.listing import ending_of
from dataset_conversion.brats.record import Report


class Step(NamedTuple):
    """One file of ``case`` to write: ``action`` is link, recompress, clip or relabel."""

    case: str
    action: str
    source: Path
    target: Path

    def done(self, link: bool) -> bool:
        """Whether the file is there: files are whole or absent, and those of changed sources are removed first.

        ``link`` is false where copies are asked for: then a link is not yet what it should be.
        """
        if self.action != "link":
            return self.target.exists()
        return is_same(self.source, self.target) and (link or not self.target.samefile(self.source))


def _action(kind: str, source: Path, relabelled: bool, options: Options) -> str:
    if kind == SEGMENTATION and relabelled:
        return "relabel"
    if kind != SEGMENTATION and options.clip_percentiles:
        return "clip"
    return "link" if ending_of(source) == options.file_ending else "recompress"


def steps_of(case: Case, edition: Edition, report: Report, options: Options, images: Path, labels: Path) -> list[Step]:
    """All steps of one case into the folders ``images`` and ``labels``."""
    relabelled = any(report.voxels.get(ours, 0) for theirs, ours in edition.labels.items() if theirs != ours)
    steps = []
    for kind, (source,) in case.files.items():
        suffix = "" if kind == SEGMENTATION else f"_{edition.kinds.index(kind):04d}"
        folder = labels if kind == SEGMENTATION else images
        target = folder / f"{case.name}{suffix}{options.file_ending}"
        steps.append(Step(case.name, _action(kind, source, relabelled, options), source, target))
    return steps
