"""Where a network looks for a class: 3D Grad-CAM of whole cases through nnU-Net's sliding window.

Written to OUT for every case and class: CASE__CLASS.nii.gz, from 0 to 1 in the space of the image, for networks with
branches one a branch (CASE__CLASS__t1ce.nii.gz ...) on one scale, and CASE__CLASS.png, a slice of it. An interrupted
run goes on with the same command. docs/explain.md says what the maps mean, and what they cannot show.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_ext.commands.explaining import Model, add_images, add_model, facts_of, images_of, model_of
from nnunet_ext.commands.table import aligned
from nnunet_ext.explain.choices import METHODS, VOXELS

if TYPE_CHECKING:
    from torch import Tensor

    from nnunet_ext.explain.cases import Case
    from nnunet_ext.explain.gradcam import Score
    from nnunet_ext.explain.regions import Region

SUMMARY_FILE = "gradcam.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    add_model(parser)
    add_images(parser, required=False)
    add = parser.add_argument
    add("--class", dest="regions", nargs="+", default=[], metavar="NAME", help="of dataset.json (default: all)")
    add("--layer", nargs="+", default=[], metavar="NAME", help="one map each (default: see --layers)")
    add("--voxels", choices=VOXELS, default=VOXELS[0], help="whose logits are explained (default: %(default)s)")
    add("--method", choices=METHODS, help="default: hirescam at branches, where gradcam is void, else gradcam")
    add("--layers", action="store_true", help="list the layers that have maps, and stop")


def run(args: argparse.Namespace) -> int:
    """Writes the maps and tells which class was predicted in no voxel."""
    model = model_of(args, one_fold=True)
    from nnunet_ext.explain.layers import chosen_layers, default_method
    from nnunet_ext.explain.nifti import check_reader
    from nnunet_ext.explain.regions import chosen, regions_of

    if args.layers:
        print(_listing(model))
        return 0
    if args.images is None or args.out is None:
        raise ValueError("-i and -o name the folders of images and results; only --layers goes without.")
    regions = chosen(regions_of(model.predictor), args.regions)
    layers = chosen_layers(model.predictor, args.layer)
    args.method = args.method or default_method(list(layers.values()))
    check_reader(model.predictor)
    found = _all_cases(args, model, regions, layers, images_of(args, model))
    print(_report(args.out, found))
    return 0


def _listing(model: Model) -> str:
    """The layers with their shapes for a patch; what is explained by default has a star."""
    from nnunet_ext.explain.layers import default_layers, maps_of

    default = set(default_layers(model.predictor).values())
    rows = [["layer", "channels", "size", "default"]]
    for name, (channels, *size) in maps_of(model.predictor).items():
        rows.append([name, str(channels), "x".join(map(str, size)), "*" if name in default else ""])
    return aligned(rows)


def _all_cases(
    args: argparse.Namespace,
    model: Model,
    regions: "Sequence[Region]",
    layers: Mapping[str, str],
    images: Mapping[str, list[Path]],
) -> dict[str, Any]:
    from nnunet_ext.evaluation.table import whole
    from nnunet_ext.explain.kept import Kept, origin

    options = {"method": args.method, "layers": dict(layers), "classes": [r.name for r in regions]}
    options |= {"voxels": args.voxels, "step_size": args.step_size}
    settings = origin(model.folder, model.folds, args.chk, **options)
    kept, found = Kept(args.out, settings, overwrite=args.overwrite), {}
    done = {case: kept.get(case, files) for case, files in images.items()}
    for case, files in images.items():
        result = done[case]
        if result is None or not all((args.out / name).is_file() for name in result["files"]):
            result = _one_case(args, model, regions, layers, (case, files))
            kept.put(case, files, result)
        found[case] = result
    summary = {**facts_of(model), **settings, "cases": found}
    whole(args.out / SUMMARY_FILE, json.dumps(summary, indent=1) + "\n")
    return found


def _one_case(
    args: argparse.Namespace,
    model: Model,
    regions: "Sequence[Region]",
    layers: Mapping[str, str],
    named: tuple[str, list[Path]],
) -> dict[str, Any]:
    from nnunet_ext.explain.cases import prepare
    from nnunet_ext.explain.gradcam import Score, logits_of
    from nnunet_ext.explain.maps import write_region

    case = prepare(model.predictor, *named)
    logits = logits_of(model.predictor, case.data)
    predicted = {region.name: region.predicted(logits) for region in regions}
    everywhere = args.voxels == "all"
    absent = [region.name for region in regions if not predicted[region.name].any()]
    explained = [region for region in regions if everywhere or region.name not in absent]
    scores = [Score(region, predicted[region.name] | everywhere) for region in explained]
    maps = _maps(model, case, scores, layers, args.method)
    args.out.mkdir(parents=True, exist_ok=True)
    files: list[str] = []
    for region, of in maps.items():
        files += write_region(model.predictor, case, named[1], (region, of, predicted[region]), args.out)
    dark = [region for region, of in maps.items() if not any((map_ > 0).any() for map_ in of.values())]
    return {"files": files, "not_predicted": absent, "nothing_positive": dark}


def _maps(
    model: Model, case: "Case", scores: "Sequence[Score]", layers: Mapping[str, str], method: str
) -> "dict[str, dict[str, Tensor]]":
    """Region -> name of a map -> the map."""
    from tqdm import tqdm

    from nnunet_ext.explain.gradcam import gradcam, passes
    from nnunet_ext.explain.window import tiles_in

    if not scores:
        return {}
    tiles = tiles_in(model.predictor, case.data.shape[1:])
    with tqdm(total=passes(method) * tiles, desc=case.name, unit="tile", disable=None) as bar:
        found = gradcam(model.predictor, case.data, scores, list(layers.values()), bar.update, method=method)
    names = [score.region.name for score in scores]
    return {name: {of: found[name, layer] for of, layer in layers.items()} for name in names}


def _report(out: Path, found: Mapping[str, Any]) -> str:
    lines = []
    for case, of in found.items():
        lines += [f"{case}: no voxel was predicted as {name}." for name in of["not_predicted"]]
        lines += [f"{case}: nothing in the layer speaks for {name}; its map is 0." for name in of["nothing_positive"]]
    number = sum(name.endswith(".nii.gz") for of in found.values() for name in of["files"])
    return "\n".join([*lines, f"{number} maps of {len(found)} cases in {out}; {SUMMARY_FILE} says how they were made."])
