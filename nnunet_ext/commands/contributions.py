"""How much each modality contributes to a network's segmentation of a case: exact Shapley values.

All subsets of the image channels are predicted by nnU-Net, the absent ones replaced after its preprocessing. Written to
OUT: contributions.csv (a row for each case, region, value function, baseline and modality), subsets.csv, for
QuadBranchAttention agreement.csv, summary.json and contributions.png. An interrupted run goes on with the same command.
docs/explain.md says what the numbers mean.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_ext.commands.explaining import Model, add_images, add_model, facts_of, images_of, model_of, references_of
from nnunet_ext.commands.table import aligned
from nnunet_ext.explain.choices import BASELINES, VALUES

if TYPE_CHECKING:
    import pandas as pd

    from nnunet_ext.explain.baselines import Baseline
    from nnunet_ext.explain.regions import Region
    from nnunet_ext.explain.results import CaseGames

SUMMARY_FILE, PICTURE_FILE = "summary.json", "contributions.png"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    add_model(parser)
    add_images(parser)
    add = parser.add_argument
    add("-l", "--labels", type=Path, required=True, metavar="FOLDER", help="reference segmentations, CASE.nii.gz")
    add("--value", nargs="+", choices=VALUES, default=list(VALUES), help="what is explained (default: both)")
    add("--baseline", nargs="+", choices=BASELINES, default=["zero"], help="replaces a modality (default: zero)")
    add("--mean-from", type=Path, metavar="FOLDER", help="preprocessed cases (default: of nnUNet_preprocessed)")
    add("--region", nargs="+", default=[], metavar="NAME", help="regions or classes of dataset.json (default: all)")
    add("--mirror", action="store_true", help="mirror in prediction as nnUNetv2_predict does: eight times slower")


def run(args: argparse.Namespace) -> int:
    """Predicts, writes the tables and the picture, prints the means."""
    if len(set(args.value)) < len(args.value):
        raise ValueError(f"--value is {' '.join(args.value)}; name each once.")
    model = model_of(args, mirror=args.mirror)
    from nnunet_ext.explain.cases import modalities_of
    from nnunet_ext.explain.regions import chosen, regions_of
    from nnunet_ext.explain.shapley import check_number

    modalities = modalities_of(model.predictor)
    check_number(len(modalities))
    regions = chosen(regions_of(model.predictor), args.region)
    images = images_of(args, model)
    references = references_of(args.labels, list(images), model.predictor.dataset_json["file_ending"])
    found = _all_cases(args, model, regions, images, references)
    settings = {**facts_of(model), **_settings(args, model, regions, list(images)), "modalities": list(modalities)}
    contributions = _write(args.out, settings, found, modalities)
    print(_report(contributions))
    return 0


def _all_cases(
    args: argparse.Namespace,
    model: Model,
    regions: "Sequence[Region]",
    images: Mapping[str, list[Path]],
    references: Mapping[str, Path],
) -> "list[CaseGames]":
    from tqdm import tqdm

    from nnunet_ext.explain.kept import Kept
    from nnunet_ext.explain.results import as_plain, from_plain

    kept = Kept(args.out, _settings(args, model, regions, list(images)), overwrite=args.overwrite)
    files = {case: [*of, references[case]] for case, of in images.items()}
    plain = {case: kept.get(case, of) for case, of in files.items()}
    found = {case: from_plain(case, of) for case, of in plain.items() if of is not None}
    left = [case for case in images if case not in found]
    baselines = _baselines(args, model, list(images)) if left else {}
    steps = len(left) * len(baselines) * 2 ** len(next(iter(images.values())))
    with tqdm(total=steps, unit="prediction", disable=None) as bar:
        for case in left:
            bar.set_description(case)
            found[case] = _one_case(args, model, regions, (case, files[case]), baselines, bar.update)
            kept.put(case, files[case], as_plain(found[case]))
    return [found[case] for case in images]


def _one_case(
    args: argparse.Namespace,
    model: Model,
    regions: "Sequence[Region]",
    named: tuple[str, list[Path]],
    baselines: "Mapping[str, Baseline]",
    step: Any,
) -> "CaseGames":
    from nnunet_ext.explain.attention import attention_weights
    from nnunet_ext.explain.cases import prepare, read_reference
    from nnunet_ext.explain.contributions import contributions
    from nnunet_ext.explain.results import CaseGames

    name, (*files, truth) = named
    case = prepare(model.predictor, name, files)
    reference = read_reference(model.predictor, truth, case)
    games = contributions(
        model.predictor, case, reference, regions=regions, values=args.value, baselines=baselines, step=step
    )
    return CaseGames(name, tuple(games), attention_weights(model.predictor, case))


def _settings(
    args: argparse.Namespace, model: Model, regions: "Sequence[Region]", cases: Sequence[str]
) -> dict[str, Any]:
    """All that decides the numbers of a case but its own files."""
    from nnunet_ext.explain.baselines import others
    from nnunet_ext.explain.kept import origin

    mean_of = others(_mean_folder(args, model), cases) if "mean" in args.baseline else ()
    return origin(
        model.folder,
        model.folds,
        args.chk,
        values=args.value,
        baselines=args.baseline,
        mean_of=list(mean_of),
        regions=[region.name for region in regions],
        mirror=args.mirror,
        step_size=args.step_size,
    )


def _baselines(args: argparse.Namespace, model: Model, cases: Sequence[str]) -> "dict[str, Baseline]":
    from nnunet_ext.explain.baselines import Mean, zero
    from nnunet_ext.explain.cases import modalities_of

    made: dict[str, Baseline] = {}
    for name in args.baseline:
        if name == "zero":
            made[name] = zero
        else:
            channels = len(modalities_of(model.predictor))
            made[name] = Mean(_mean_folder(args, model), cases, channels)
    return made


def _mean_folder(args: argparse.Namespace, model: Model) -> Path:
    from nnunet_ext.commands.preprocessed import dataset_folder

    if args.mean_from:
        folder: Path = args.mean_from
        return folder
    dataset = dataset_folder(model.predictor.plans_manager.dataset_name)
    return dataset / model.predictor.configuration_manager.data_identifier


def _write(
    out: Path, settings: Mapping[str, Any], found: "Sequence[CaseGames]", modalities: Sequence[str]
) -> "pd.DataFrame":
    from nnunet_ext.evaluation.table import plain, whole
    from nnunet_ext.explain import results
    from nnunet_ext.explain.pictures import contributions_picture

    contributions = results.contributions_table(found, modalities)
    tables = {
        results.CONTRIBUTIONS_FILE: contributions,
        results.SUBSETS_FILE: results.subsets_table(found, modalities),
    }
    if any(of.attention for of in found):
        tables[results.AGREEMENT_FILE] = results.agreement_table(contributions)
    for name, table in tables.items():
        whole(out / name, table.to_csv(index=False))
    contributions_picture(contributions, out / PICTURE_FILE)
    rows = results.means(contributions).to_dict("records")
    whole(out / SUMMARY_FILE, json.dumps(plain({**settings, "means": rows}), indent=1) + "\n")
    return contributions


def _report(contributions: "pd.DataFrame") -> str:
    """The means, a line for each region, value function and baseline."""
    from nnunet_ext.explain.results import means

    found = means(contributions)
    modalities = list(dict.fromkeys(found["modality"]))
    rows = [["region", "value", "baseline", "cases", *modalities]]
    for keys, of in found.groupby(["region", "value", "baseline"], sort=False):
        by = of.set_index("modality")
        rows.append([*map(str, keys), str(by["count"].max()), *(f"{by['mean'][m]:+.4f}" for m in modalities)])
    return aligned(rows)
