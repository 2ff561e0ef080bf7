"""Turn weights of MONAI's SwinUNETR or UNETR, or of another training, into a checkpoint for -pretrained_weights.

FILE is what torch.save wrote: a state dict, or a dictionary that holds one as "state_dict" or "model". It is read
without running anything that it contains. Tensors are taken where name and shape fit; the others keep the network's
initial values. The table tells what became of each. Files of SwinUNETR made with downsample="mergingv2" do not fit,
which their names and shapes do not show.

Put the file's modalities in order with --channels, e.g. --channels FLAIR T1ce T1 T2: each goes to the dataset's channel
of the same modality, the dataset's other channels keep their initial weights. Without the option the file's channels
are taken to be the dataset's. nnU-Net itself never takes over the segmentation layers.

For a network of case-level targets FILE is a classifier's state dict (.pth or .safetensors), whose names are those of
torchvision's, MONAI's or timm's ResNet18, or of the network's own backbone of timm; or the word "published", with which
timm downloads them. Kernels for photographs are inflated for volumes and spread over the dataset's channels.

For a trainer with the word Fused FILE and --further are checkpoints of trainings on one input each, in the order of the
inputs of targets.json: their encoders become those of the fusion.

FILE may also be a checkpoint of nnU-Net: its tensors are taken by name and shape. A file of another architecture, of
which more than the segmentation layers do not fit, is refused unless --partial asks for what fits.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_ext.commands.preprocessed import dataset_folder, read_plans
from nnunet_ext.commands.table import aligned
from nnunet_ext.networks.channels import modality_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from nnunet_ext.networks.interop import Import

CHECKPOINT = "network_weights"  # nnU-Net's key
HEADS = ".seg_layers."  # which nnU-Net does not take over
NESTED = ("state_dict", "model", CHECKPOINT)  # where training scripts put the weights beside other things
ENCODER = "encoder."
PUBLISHED = "published"  # in place of a file
FEWEST = 0.1  # part of a file's tensors: fewer fit by chance, those of the segmentation layer for example


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    parser.add_argument("file", type=Path, metavar="FILE", help="weights, or the word published")
    parser.add_argument("-tr", required=True, metavar="TRAINER", help="e.g. nnUNetTrainer_SwinUNETR_M")
    parser.add_argument("-d", required=True, metavar="DATASET", help="number or name of a preprocessed dataset")
    parser.add_argument("-p", default="nnUNetPlans", metavar="PLANS", help="default: nnUNetPlans")
    parser.add_argument("-c", required=True, metavar="CONFIG", help="e.g. 3d_fullres")
    parser.add_argument("-o", required=True, type=Path, metavar="OUT.pth", help="the checkpoint to write")
    parser.add_argument("--channels", nargs="+", metavar="NAME", help="the file's modalities in their order")
    parser.add_argument(
        "--further", nargs="+", type=Path, metavar="FILE", help="for the further inputs of a Fused trainer"
    )
    parser.add_argument("--partial", action="store_true", help="of nnU-Net's checkpoint of another network, what fits")


def run(args: argparse.Namespace) -> int:
    """Imports and prints the table."""
    import torch

    from nnunet_ext.networks.channels import channel_names
    from nnunet_ext.networks.interop import import_monai

    if not args.o.parent.is_dir():
        raise ValueError(f"There is no folder {args.o.parent} to write {args.o.name} into; create it first.")
    pooled = _pooled(args.tr)
    if args.further or _fused(args.tr):
        return _take_inputs(args)
    state, trained = _published(args) if pooled and args.file.name == PUBLISHED else _read(args.file)
    folder = dataset_folder(args.d)
    plans, dataset = read_plans(folder, args.p), json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    if trained is not None:
        return _take_checkpoint(_network(args.tr, plans, args.c, dataset), state, trained, args)
    if pooled:
        return _take_classifier(_network(args.tr, plans, args.c, dataset), state, args)
    channels = _channels(args.channels, channel_names(dataset, str(folder / "dataset.json"))) if args.channels else None
    result = import_monai(_network(args.tr, plans, args.c, dataset), state, channels)
    _refuse_another_family(result, state, args)
    if args.channels and result.input_channels not in (None, len(args.channels)):
        raise ValueError(
            f"--channels names {len(args.channels)} modalities, but the network in {args.file} reads "
            f"{result.input_channels} channels; name each of them."
        )
    torch.save({"network_weights": result.weights}, args.o)
    print(_table(result, state))
    return 0


def _refuse_another_family(result: "Import", state: Mapping[str, "Tensor"], args: argparse.Namespace) -> None:
    if len(result.matched) < FEWEST * len(state):
        raise ValueError(
            f"Only {len(result.matched)} of the {len(state)} tensors in {args.file} fit {args.tr}; choose the trainer "
            f"of the file's family and size."
        )


def _pooled(trainer: str) -> bool:
    """Whether a trainer's network answers for cases."""
    from nnunet_ext.trainers.grammar import parse

    parsed = parse(trainer)
    return parsed is not None and not parsed.spec.task.decodes


def _fused(trainer: str) -> bool:
    """Whether a trainer's network has an encoder for each input."""
    from nnunet_ext.trainers.grammar import parse

    parsed = parse(trainer)
    return parsed is not None and parsed.recipe.fused


def _published(args: argparse.Namespace) -> tuple[dict[str, "Tensor"], None]:
    from nnunet_ext.outcomes.published import published
    from nnunet_ext.trainers.grammar import parse

    parsed = parse(args.tr)
    assert parsed is not None, "it has been parsed before"
    return published(parsed.spec), None


def _take_classifier(network: "nn.Module", state: dict[str, "Tensor"], args: argparse.Namespace) -> int:
    """Writes what fits of a classifier of photographs, or of volumes, and prints the table."""
    import torch

    from nnunet_ext.networks.inflation import import_encoder

    result = import_encoder(network, state)
    _refuse_another_family(result, state, args)
    torch.save({CHECKPOINT: result.weights}, args.o)
    print(_table(result, state))
    return 0


def _take_inputs(args: argparse.Namespace) -> int:
    """Writes a fusion's weights with the encoders of several checkpoints and prints the table.

    Raises:
        ValueError: an encoder is not that of the trainer's input.
    """
    import torch

    from nnunet_ext.outcomes.building import DECLARED, declaration
    from nnunet_ext.outcomes.columns import SCHEMA_FILE, load_schema
    from nnunet_ext.trainers.grammar import parse
    from nnunet_ext.trainers.pretrained import MISSING, SAME, match, merged, table

    parsed, folder = parse(args.tr), dataset_folder(args.d)
    if parsed is None or not parsed.recipe.fused:
        raise ValueError(f"{args.tr} has one encoder; --further is for trainers with the word Fused.")
    schema, files = load_schema(folder / SCHEMA_FILE), [args.file, *(args.further or ())]
    if schema.inputs and len(files) != len(schema.inputs):
        raise ValueError(
            f"{args.tr} has an encoder for each of the inputs {', '.join(schema.inputs)}, and {len(files)} files are "
            "given; name a checkpoint for each, FILE first and the others by --further."
        )
    plans = {**read_plans(folder, args.p), DECLARED: declaration(schema, list(schema.columns.values()), parsed.recipe)}
    own = _network(
        args.tr, plans, args.c, json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    ).state_dict()
    state: dict[str, Tensor] = {}
    for i, file in enumerate(files):
        tensors = {name: value for name, value in _read(file)[0].items() if name.startswith(ENCODER)}
        state |= {f"{ENCODER}each.{i}.{name.removeprefix(ENCODER)}": value for name, value in tensors.items()}
    found = match(own, state)
    told = table(found, f"{len(files)} files for {args.tr}:")
    if any(m.fate not in (SAME, MISSING) or (m.fate == MISSING and m.name.startswith(ENCODER)) for m in found):
        raise ValueError(
            f"{told}\nGive a checkpoint of this network for each of the inputs {', '.join(schema.inputs)}."
        )
    torch.save({CHECKPOINT: merged(own, state)}, args.o)
    print(told)
    return 0


def _take_checkpoint(network: "nn.Module", state: dict[str, "Tensor"], trained: str, args: argparse.Namespace) -> int:
    """Writes what fits of a checkpoint of nnU-Net and prints the table.

    Raises:
        ValueError: it is another network's, and --partial was not given.
    """
    import torch

    from nnunet_ext.trainers.pretrained import SAME, match, merged, table

    own = network.state_dict()
    found = match(own, state)
    told = table(found, f"{args.file} for {args.tr}:")
    others = sum(m.fate != SAME and HEADS not in m.name for m in found)
    if (others or _another(trained, args.tr)) and not args.partial:
        raise ValueError(
            f"{told}\n{others} tensors do not fit; these are weights of {trained or 'another network'}. Give --partial "
            f"to take what fits into {args.tr} nevertheless."
        )
    torch.save({CHECKPOINT: merged(own, state)}, args.o)
    print(told)
    return 0


def _another(trained: str, trainer: str) -> bool:
    """Whether two trainers of ours have different networks: some have equal names and shapes."""
    from nnunet_ext.trainers.grammar import parse

    theirs, ours = parse(trained), parse(trainer)
    return theirs is not None and ours is not None and theirs.spec != ours.spec


def _read(path: Path) -> tuple[dict[str, "Tensor"], str | None]:
    """The tensors of a file by name, and of a checkpoint of nnU-Net the trainer's name."""
    import torch

    from nnunet_ext.trainers.reading import read_safely

    if path.suffix == ".safetensors":
        from nnunet_ext.outcomes.published import read_safetensors

        return read_safetensors(path), None
    content = read_safely(path)
    trained = str(content.get("trainer_name", "")) if isinstance(content, Mapping) and CHECKPOINT in content else None
    for key in NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    tensors = {k: v for k, v in content.items() if isinstance(v, torch.Tensor)} if isinstance(content, Mapping) else {}
    if not tensors:
        raise ValueError(f"{path} holds no state dict; save the network's state_dict() with torch.save.")
    return tensors, trained


def _network(trainer: str, plans: dict[str, Any], configuration: str, dataset: dict[str, Any]) -> "nn.Module":
    """The network that this trainer would train, initialised."""
    from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    from nnunet_ext.outcomes.trainer import CaseTrainer
    from nnunet_ext.trainers import trainer_class

    try:
        cls = trainer_class(trainer)
    except AttributeError as error:
        raise ValueError(f"{trainer} is none of this package's trainers; `nnunet_ext list` shows them.") from error
    if configuration not in plans["configurations"]:
        raise ValueError(
            f"The plans have no configuration {configuration!r}, only {', '.join(plans['configurations'])}."
        )
    manager = PlansManager(plans)
    planned = manager.get_configuration(configuration)
    build = cls.network_with_heads if issubclass(cls, CaseTrainer) else cls.build_network_architecture
    return build(
        manager,
        planned,
        determine_num_input_channels(manager, planned, dataset),
        manager.get_label_manager(dataset).num_segmentation_heads,
    )


def _channels(names: Sequence[str], dataset: Mapping[str, str]) -> list[int | None]:
    """For each of the dataset's channels, the place of its modality among ``names``."""
    theirs = [_modality(name) for name in names]
    ours = [_modality(dataset[str(i)]) for i in range(len(dataset))]
    if len(set(theirs)) < len(theirs):
        raise ValueError(f"--channels names a modality twice: {' '.join(names)}.")
    if not set(theirs) & set(ours):
        raise ValueError(f"None of --channels {' '.join(names)} is a channel here: {' '.join(dataset.values())}.")
    return [theirs.index(m) if m in theirs else None for m in ours]


def _modality(name: str) -> str:
    return modality_of(name) or name.strip().lower()


def _table(result: "Import", state: Mapping[str, "Tensor"]) -> str:
    """One row for each kind with its number, below it one for each tensor that was not taken over."""
    here = {name: _text(value.shape) for name, value in result.weights.items()}
    kinds = {
        "shape differs": {n: f"{here[n]}, in the file {_text(s)}" for n, s in result.shape_differs.items()},
        "missing": {n: here[n] for n in result.missing},
        "unused": {n: _text(state[n].shape) for n in result.unused},
    }
    rows = [["", "tensors", "shape"], ["matched", str(len(result.matched)), ""]]
    for kind, tensors in kinds.items():
        rows.append([kind, str(len(tensors)), ""])
        rows += [["", name, shape] for name, shape in tensors.items()]
    return aligned(rows)


def _text(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"
