"""The cases that went worst, with everybody's segmentation of them: for surfaces and overlays."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nnunet_ext.evaluation import finding, reading
from nnunet_ext.evaluation.comparison import Evaluated
from nnunet_ext.evaluation.regions import Scheme, scheme_of_dataset
from nnunet_ext.evaluation.surface_meshes import mesh_of

MARGIN = 2  # voxels around all masks of a case


@dataclass(frozen=True)
class CaseMasks:
    """One case as the reference and every method have it.

    Attributes:
        case: its name.
        classes: "reference" or a method -> numbers of the scheme's classes, (Z, Y, X).
        spacing: mm along z, y, x.
        scheme: what the numbers mean.
    """

    case: str
    classes: Mapping[str, NDArray[np.uint8]]
    spacing: tuple[float, ...]
    scheme: Scheme

    def regions_of(self, name: str, regions: Sequence[str]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
        """Region and mask, within the box around all masks."""
        cropped = self.classes[name][self.box()]
        yield from ((region, np.isin(cropped, self.scheme.regions[region])) for region in regions)

    def box(self) -> tuple[slice, ...]:
        """Around what anybody marked, with a margin inside the volume."""
        marked = np.any([classes > 0 for classes in self.classes.values()], 0)
        found = [
            np.flatnonzero(marked.any(tuple(a for a in range(marked.ndim) if a != axis))) for axis in range(marked.ndim)
        ]
        return tuple(slice(max(f[0] - MARGIN, 0), f[-1] + MARGIN + 1) if f.size else slice(0, 1) for f in found)


def worst_cases(table: pd.DataFrame, regions: Sequence[str]) -> list[str]:
    """All cases, by their mean Dice over methods, seeds and regions, the worst first."""
    dice = table[(table["metric"] == "Dice") & table["region"].isin(regions)]
    return [str(case) for case in dice.groupby("case")["value"].mean().sort_values(kind="stable").index]


def masks_of(case: str, evaluated: Sequence[Evaluated], references: Path) -> CaseMasks | None:
    """The case as the first seed of every method has it; None where a file of it cannot be read or does not fit.

    Args:
        case: its name.
        evaluated: all trainings.
        references: folder of the reference segmentations.
    """
    first = {one.run.method: one for one in reversed(evaluated) if case in set(one.table["case"])}
    files = {"reference": finding.files(references).get(case)}
    files |= {method: finding.files(one.run.predictions).get(case) for method, one in first.items()}
    dataset = finding.read_dataset_json(next(iter(first.values())).run.folder.parent / "dataset.json")
    scheme = scheme_of_dataset(dataset)
    try:
        read = {name: reading.read(path) for name, path in files.items() if path is not None}
    except reading.UnreadableError:
        return None  # the evaluation has told it
    shapes = {one.labels.shape for one in read.values()}
    if len(read) < len(files) or len(shapes) > 1 or any(scheme.foreign(np.unique(r.labels)) for r in read.values()):
        return None  # told by the evaluation as well
    classes = {name: scheme.classes_of(one.labels) for name, one in read.items()}
    return CaseMasks(case, classes, read["reference"].spacing, scheme)


def surfaces_of(masks: CaseMasks, regions: Sequence[str]) -> dict[str, Any]:
    """Name -> region -> mesh as plain data, all in the same coordinates; regions without a voxel are left out."""
    found: dict[str, Any] = {}
    for name in masks.classes:
        meshes = {region: mesh_of(mask, masks.spacing) for region, mask in masks.regions_of(name, regions)}
        found[name] = {region: mesh.as_plain() for region, mesh in meshes.items() if mesh is not None}
    return found
