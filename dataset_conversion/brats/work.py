"""What worker processes do with one case: audit it, write its files. NumPy and nibabel are loaded with this module."""

from dataclasses import dataclass

from dataset_conversion.brats.audit import audit_case
from dataset_conversion.brats.discovery import Case
from dataset_conversion.brats.editions import Edition
from dataset_conversion.brats.files import link_or_copy
from dataset_conversion.brats.record import Report
from dataset_conversion.brats.steps import Step
from dataset_conversion.brats.volumes import clip, recompress, relabel


@dataclass(frozen=True)
class Auditor:
    """Calls :func:`audit_case`; an object and not a closure, because it is sent to other processes."""

    edition: Edition
    kinds: tuple[str, ...]

    def __call__(self, case: Case) -> Report:
        """Audit ``case``, which has each kind of file once."""
        return audit_case(case, self.kinds, self.edition)


@dataclass(frozen=True)
class Writer:
    """Does the steps of a case; ``link`` is false where copies are asked for."""

    edition: Edition
    clip_percentiles: tuple[float, float] | None
    link: bool

    def __call__(self, steps: list[Step]) -> bool:
        """Do ``steps`` and say whether all links are links: false if one had to be a copy."""
        return all([self._do(step) for step in steps])

    def _do(self, step: Step) -> bool:
        if step.action == "link":
            return link_or_copy(step.source, step.target, self.link)
        if step.action == "recompress":
            recompress(step.source, step.target)
        elif step.action == "relabel":
            relabel(step.source, step.target, self.edition.labels)
        else:
            assert step.action == "clip", step
            assert self.clip_percentiles is not None
            clip(step.source, step.target, *self.clip_percentiles)
        return True
