"""Tell what is wrong with an installation of nnU-Net and this package, and how to mend it.

Looked at: the copies of nnunetv2 and nnunet_ext and what hides them, the versions of what they require, the variable
nnUNet_extTrainer and other packages on it, whether nnU-Net finds a trainer of ours, nnU-Net's folders, whether it reads
foreign checkpoints safely, datasets that need care. The exit code is 1 if there is an error; warnings leave it 0.
"""

import argparse
from collections.abc import Callable, Iterator

from nnunet_ext.commands import installation, neighbours, workspace
from nnunet_ext.commands.finding import Finding

CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    installation.check_packages,
    installation.check_requirements,
    installation.check_hook,
    installation.check_trainer,
    neighbours.check_neighbours,
    workspace.check_folders,
    workspace.check_workers,
    workspace.check_safe_loading,
    workspace.check_clipping,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare no options: the command looks at all there is."""


def run(args: argparse.Namespace) -> int:
    """Run all checks, print what they find and return 1 if there is an error."""
    counts = {"error": 0, "warning": 0, "ok": 0}
    for check in CHECKS:
        for finding in check():
            counts[finding.level] += 1
            print(f"{finding.level:<8} {finding.what}", flush=True)  # a later check may take seconds
            if finding.remedy:
                print(f"{'':<8} -> {finding.remedy}", flush=True)
    print(f"\nerrors: {counts['error']}, warnings: {counts['warning']}")
    return int(counts["error"] > 0)
