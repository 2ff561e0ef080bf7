"""The interactive report and the overlays of a comparison."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from nnunet_ext.evaluation.comparison import Evaluated

OVERLAYS = "overlays"
SURFACE_BYTES = 550_000  # of the page, for all surfaces as they are stored in it
UNDERLAYS = ("flair", "t2f", "t1ce", "t1c", "t1gd")  # channels that show the tumour, the best first


def write_report(
    out: Path,
    evaluated: "Sequence[Evaluated]",
    tables: "dict[str, pd.DataFrame]",
    regions: Sequence[str],
    references: Path,
    most_cases: int,
) -> None:
    """Writes ``interactive_3d_analysis.html`` and a picture for each of the worst cases.

    Args:
        out: folder of the comparison.
        evaluated: all trainings.
        tables: see :func:`nnunet_ext.evaluation.page_data.page_data`.
        regions: shown.
        references: folder of the reference segmentations.
        most_cases: overlays and surfaces that are made at most; surfaces also stop where the page would be too large.
    """
    from tqdm import tqdm

    from nnunet_ext.evaluation import overlays, worst
    from nnunet_ext.evaluation.page import NAME, packed, write_page
    from nnunet_ext.evaluation.page_data import page_data

    (out / OVERLAYS).mkdir(exist_ok=True)
    surfaces: dict[str, Any] = {}
    size = 0
    for case in tqdm(
        worst.worst_cases(tables["results"], regions)[:most_cases], "worst cases", unit="case", disable=None
    ):
        masks = worst.masks_of(case, evaluated, references)
        if masks is None or masks.classes["reference"].ndim != 3:
            continue
        picture = out / OVERLAYS / f"{case}.png"
        shape = masks.classes["reference"].shape
        overlays.overlay(masks, underlay(case, evaluated[0], shape), _dice(tables["results"], case, regions), picture)
        meshes = worst.surfaces_of(masks, regions)
        size += len(packed(json.dumps(meshes)))
        if size <= SURFACE_BYTES:
            surfaces[case] = meshes
    write_page(out / NAME, page_data(tables, regions, _facts(tables), surfaces))


def underlay(case: str, one: "Evaluated", shape: tuple[int, ...]) -> "np.ndarray | None":
    """The channel that shows the tumour best, of the shape (Z, Y, X); None where there is none, which is told."""
    import numpy as np
    import SimpleITK

    from nnunet_ext.evaluation.finding import read_dataset_json

    root = os.environ.get("nnUNet_raw")
    dataset = read_dataset_json(one.run.folder.parent / "dataset.json")
    names = {str(name).lower(): index for index, name in dataset.get("channel_names", {}).items()}
    chosen = next((names[name] for name in UNDERLAYS if name in names), "0")
    for folder in ("imagesTr", "imagesTs"):
        path = Path(root or "", one.run.dataset, folder, f"{case}_{int(chosen):04d}{dataset['file_ending']}")
        if root and path.is_file():
            try:
                image: np.ndarray = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
            except RuntimeError:  # the overlay is made without it
                image = np.empty(0)
            if image.shape == shape:
                return image
            print(f"{path} is damaged or of another shape; the overlay is drawn without it.", file=sys.stderr)
    return None


def _dice(table: "pd.DataFrame", case: str, regions: Sequence[str]) -> dict[str, str]:
    """Method -> its Dice of the case in each region."""
    chosen = table[(table["case"] == case) & (table["metric"] == "Dice") & table["region"].isin(regions)]
    means = chosen.groupby(["method", "region"])["value"].mean()
    return {
        method: ", ".join(f"{region} {means[method, region]:.3f}" for region in regions)
        for method in chosen["method"].unique()
    }


def _facts(tables: "dict[str, pd.DataFrame]") -> dict[str, Any]:
    first, run = tables["models"].iloc[0], tables["runs"].iloc[0]
    counts = {name: int(first[name]) for name in ("seeds", "folds", "cases")}
    return {"dataset": run["dataset"], **counts, "convention": run["convention"], "labels": run["labels"]}
