"""What is done with one case: audit it, write its files.

The modules that need NumPy and nibabel are imported with the first case: a finished dataset does not wait for them.
"""

from dataclasses import dataclass

from dataset_conversion.brats.discovery import Case, Tree
from dataset_conversion.brats.editions import Edition
from dataset_conversion.brats.files import link_or_copy
from dataset_conversion.brats.record import Report
from dataset_conversion.brats.steps import Step


@dataclass(frozen=True)
class Auditor:
    """Audits cases of ``tree``."""

    tree: Tree

    def __call__(self, case: Case) -> Report:
        """Audit ``case``."""
        from dataset_conversion.brats.audit import audit_case

        return audit_case(case, self.tree.kinds, self.tree.edition)


@dataclass(frozen=True)
class Writer:
    """Does the steps of cases; ``link`` is false where copies are asked for."""

    edition: Edition
    clip_percentiles: tuple[float, float] | None
    link: bool

    def __call__(self, steps: list[Step]) -> bool:
        """Do the ``steps`` of a case and say whether all links are links: false if one had to be a copy."""
        return all([self._do(step) for step in steps])

    def _do(self, step: Step) -> bool:
        if step.action == "link":
            return link_or_copy(step.source, step.target, self.link)
        self._rewrite(step)
        return True

    def _rewrite(self, step: Step) -> None:
        from dataset_conversion.brats import volumes

        try:
            if step.action == "recompress":
                volumes.recompress(step.source, step.target)
            elif step.action == "relabel":
                volumes.relabel(step.source, step.target, self.edition.labels)
            else:
                assert step.action == "clip", step
                assert self.clip_percentiles is not None
                volumes.clip(step.source, step.target, *self.clip_percentiles)
        except volumes.VolumeError as error:  # the audit found it sound: it was changed since
            raise OSError(f"{step.source} {error}") from error
