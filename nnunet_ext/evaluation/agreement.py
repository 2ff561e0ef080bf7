"""Agreement with the summary.json that nnU-Net writes beside its validation."""

from collections.abc import Sequence
from math import isnan
from pathlib import Path
from typing import Any

from nnunet_ext.evaluation import reading
from nnunet_ext.evaluation.cases import Settings
from nnunet_ext.evaluation.json_files import read_json
from nnunet_ext.evaluation.regions import Scheme


def with_nnunet(folder: Path, records: Sequence[dict[str, Any]], settings: Settings) -> dict[str, Any] | None:
    """How far Dice is from nnU-Net's, over cases and regions that both have.

    A region that is empty in both masks has no Dice in nnU-Net and is left out.

    Args:
        folder: of the predictions.
        records: of the evaluation.
        settings: of the evaluation.

    Returns:
        cases, values, largest_difference, and the case and region that have it; None without such a file, and where the
        threshold of enhancing tumour has changed the predictions.
    """
    path = folder / "summary.json"
    if settings.et_threshold or not path.is_file():
        return None
    listed = read_json(path, "run nnU-Net's validation or evaluation again").get("metric_per_case", [])
    theirs = {reading.stem(Path(entry["prediction_file"])): entry["metrics"] for entry in listed}
    keys = _keys(settings.reference)
    steps = []
    for record in (r for r in records if r["case"] in theirs and not r["failure"]):
        for key, entry in theirs[record["case"]].items():
            region = keys.get(key.replace(" ", ""))
            if region and entry["Dice"] is not None and not isnan(entry["Dice"]):
                ours = record["regions"][region]["values"]["Dice"]
                steps.append((abs(ours - entry["Dice"]), record["case"], region))
    if not steps:
        return None
    largest, case, region = max(steps)
    cases = len({case for _, case, _ in steps})
    return {"cases": cases, "values": len(steps), "largest_difference": largest, "case": case, "region": region}


def _keys(scheme: Scheme) -> dict[str, str]:
    """nnU-Net's name of a region, its labels, in either form -> ours."""
    labels = {number: label for label, number in scheme.labels.items()}
    found: dict[str, str] = {}
    for region, numbers in scheme.regions.items():
        own = sorted(labels[number] for number in numbers)
        found["(" + ",".join(map(str, own)) + ("," if len(own) == 1 else "") + ")"] = region
        if len(own) == 1:
            found[str(own[0])] = region
    return found
