"""Whole commands, from NIfTI to NIfTI: nnU-Net's with its own network, nnU-Net's with ours, the cascade."""

import os
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from tqdm import tqdm

from benchmarks.processes import measure, proportional
from nnunet_ext.commands.preprocessed import results_folder
from nnunet_ext.profiling.cost import MIB

STOCK, PLAIN, CASCADE = "stock network", "our network, sliding window", "our network, cascade"
KEYS = ("seconds", "cpu", "memory")
BIN = Path(sys.executable).parent


def stock_results(args: Namespace, folder: Path) -> Path:
    """A results folder with nnU-Net's own network for its own plan, untrained: weights do not change the cost."""
    dataset = model_folder(args).parent.name
    planned = Path(os.environ["nnUNet_preprocessed"], dataset, f"{args.stock_plans}.json")
    manager = PlansManager(str(planned))
    configuration = manager.get_configuration("3d_fullres")
    model = folder / dataset / f"nnUNetTrainer__{args.stock_plans}__3d_fullres"
    (model / "fold_0").mkdir(parents=True)
    (model / "plans.json").write_text(planned.read_text(encoding="utf-8"), encoding="utf-8")
    described = (model_folder(args) / "dataset.json").read_text(encoding="utf-8")
    (model / "dataset.json").write_text(described, encoding="utf-8")
    channels = len(configuration.normalization_schemes)
    network = nnUNetTrainer.build_network_architecture(manager, configuration, channels, 3, False)
    saved = {
        "network_weights": network.state_dict(),
        "trainer_name": "nnUNetTrainer",
        "init_args": {"configuration": "3d_fullres"},
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }
    torch.save(saved, model / "fold_0" / "checkpoint_final.pth")
    return folder


def model_folder(args: Namespace) -> Path:
    """That of the segmentation network."""
    return results_folder(args.d) / f"{args.tr}__{args.p}__{args.c}"


def ways(args: Namespace, stock: Path, *, mirroring: bool) -> dict[str, tuple[list[str], Mapping[str, str]]]:
    """Command and environment of each way; -i and -o are added later. With mirroring only your network's."""
    device = ["-device", args.device, "--disable_progress_bar", *([] if mirroring else ["--disable_tta"])]
    ours = ["-d", args.d, "-p", args.p, "-c", args.c, "-tr", args.tr, "-f", args.f, *device]
    roi = ["-roi_tr", args.roi_tr, "-roi_f", args.roi_f, "-roi_c", args.roi_c]
    theirs = ["-d", args.d, "-p", args.stock_plans, "-c", "3d_fullres", "-f", "0", *device]
    found = {
        STOCK: ([str(BIN / "nnUNetv2_predict"), *theirs], {"nnUNet_results": str(stock)}),
        PLAIN: ([str(BIN / "nnUNetv2_predict"), *ours], {}),
        CASCADE: ([str(BIN / "nnUNetv2_predict_cascade"), *ours, *roi], {}),
    }
    left_out = {STOCK: mirroring, PLAIN: not args.plain_command, CASCADE: False}
    return {way: words for way, words in found.items() if not left_out[way]}


def link(cases: Sequence[Sequence[Path]], folder: Path) -> Path:
    """An input folder with these cases, read once so that they are in the page cache."""
    folder.mkdir(parents=True)
    for path in (p for case in cases for p in case):
        path.read_bytes()
        (folder / path.name).symlink_to(path.resolve())
    return folder


def run_each(args: Namespace, cases: Mapping[str, Sequence[Path]], scratch: Path) -> list[dict[str, Any]]:
    """Each case in a process of its own, then all in one; the ways take turns."""
    stock = stock_results(args, scratch / "results")
    batches = {name: [paths] for name, paths in [*cases.items()][: args.single]}
    mirrored = [*batches][: args.mirrored] if args.plain_command else []
    if args.together:
        batches[f"all {len(cases)} in one call"] = [*cases.values()]
    records: list[dict[str, Any]] = []
    for number, (name, batch) in enumerate(tqdm(batches.items(), "commands")):
        images = link(batch, scratch / f"in{number}")
        for mirroring in (False, True) if name in mirrored else (False,):
            for way, (command, environment) in ways(args, stock, mirroring=mirroring).items():
                out = scratch / f"out{len(records)}"
                found = run_one([*command, "-i", str(images), "-o", str(out)], environment, single=len(batch) == 1)
                assert len([*out.glob("*.nii.gz")]) == len(batch)
                records.append({"cases": name, "count": len(batch), "way": way, "mirrored": mirroring, **found})
    return records


def run_one(words: Sequence[str], environment: Mapping[str, str], *, single: bool) -> dict[str, float]:
    """Time, and for a single case the memory, which is read in a run of its own: to read it takes time."""
    found = measure(words, environment, None)
    if single:
        found["memory"] = measure(words, environment, proportional)["memory"]
    return found


def ratios(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The cascade against nnU-Net's command with its own network, per batch of cases."""
    by = {(r["cases"], r["way"]): r for r in records if not r["mirrored"]}
    names = list(dict.fromkeys(r["cases"] for r in records))
    found = {
        name: {key: by[name, STOCK][key] / by[name, CASCADE][key] for key in KEYS if key in by[name, STOCK]}
        for name in names
    }
    single = [found[name] for name in names if by[name, STOCK]["count"] == 1]
    return {
        "each": found,
        "median of single cases": {key: median(f[key] for f in single) for key in KEYS} if single else {},
    }


def lines(records: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Rows of the table: cases, way, seconds, seconds of the processors, peak memory, times faster.

    The first way of a case is what its others are compared with; those with mirroring have one of their own.
    """
    base: dict[tuple[str, bool], Mapping[str, Any]] = {}
    return [_line(r, base.setdefault((r["cases"], r["mirrored"]), r)) for r in records]


def _line(record: Mapping[str, Any], base: Mapping[str, Any]) -> list[str]:
    return [
        record["cases"],
        record["way"] + (", mirrored" if record["mirrored"] else ""),
        f"{record['seconds']:.1f}",
        f"{record['cpu']:.1f}",
        f"{record['memory'] / MIB:.0f}" if "memory" in record else "-",
        f"{base['seconds'] / record['seconds']:.2f}",
        f"{record['memory'] / base['memory']:.2f}" if "memory" in record else "-",
    ]
